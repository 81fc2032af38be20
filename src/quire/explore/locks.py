"""Locks among the drivers of a study, which the system releases when their holder is killed.

A lock is a name. Beside a journal or a SQLite file it is a file that is locked (`flock`); in
PostgreSQL it is an advisory lock of the session. So no lock has to be declared stale by a clock.
"""

import hashlib
import os
import socket
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol

from sqlalchemy import text
from sqlalchemy.engine import Connection, make_url

from quire.errors import StudyError
from quire.explore.storage import file_locks, is_postgresql, server


class Locks(Protocol):
    """The locks of one study as one driver holds them.

    joinable: whether several drivers may work on one study.
    """

    joinable: bool

    def take(self, name: str, shared: bool = False) -> bool:
        """Whether the lock was free, and is held from now on until `release` or the process ends.

        shared: beside others who share it.
        """
        ...

    def release(self, name: str) -> None:
        """Let go of a lock that is held."""
        ...

    def begin(self) -> None:
        """Wait for the one lock that is held for a moment only, and take it."""
        ...

    def end(self) -> None:
        """Let go of it."""
        ...

    def holder(self, name: str) -> str:
        """Who has a lock, in words."""
        ...

    def check(self) -> None:
        """Raise what the system raises where the locks that were taken are lost."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


def here() -> str:
    """Who holds the locks of this process, in words."""
    return f"process {os.getpid()} on {socket.gethostname()}"


def open_locks(storage: str, study: str) -> Locks:
    """The locks of a study in a storage; none for a database that is neither SQLite nor PostgreSQL,
    for one in memory, and for SQLite on a system without file locks."""
    if is_postgresql(storage):
        return PostgresLocks(storage, study)
    if "://" not in storage:
        return FileLocks(Path(storage), study, joinable=True)
    path = _sqlite_file(storage)
    return NoLocks() if path is None else FileLocks(path, study, joinable=False)


def _sqlite_file(storage: str) -> Path | None:
    url = make_url(storage)
    in_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if in_file and find_spec("fcntl") else None


TURN = "turn"
"""The lock that is held for a moment only."""


def _key(study: str, name: str) -> bytes:
    return hashlib.sha256(f"quire {study}\0{name}".encode()).digest()


class NoLocks:
    """Where drivers cannot see each other: every lock is free."""

    joinable = False

    def take(self, name: str, shared: bool = False) -> bool:
        """True."""
        return True

    def release(self, name: str) -> None:
        """Nothing."""

    def begin(self) -> None:
        """No wait."""

    def end(self) -> None:
        """Nothing."""

    def holder(self, name: str) -> str:
        """Nobody."""
        return "nobody"

    def check(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class FileLocks:
    """Files beside `path`, each there for as long as somebody holds it; a kill leaves it behind,
    unlocked."""

    def __init__(self, path: Path, study: str, joinable: bool) -> None:
        self._path, self._study, self.joinable = path, study, joinable
        self._fcntl = file_locks()
        self._held: dict[str, IO[bytes]] = {}

    def take(self, name: str, shared: bool = False) -> bool:
        """Lock the file, if that is possible at once, and write into it who did."""
        kind = self._fcntl.LOCK_SH if shared else self._fcntl.LOCK_EX
        return self._lock(name, kind | self._fcntl.LOCK_NB)

    def release(self, name: str) -> None:
        """Remove the file, if nobody shares it, and let go."""
        file = self._held.pop(name)
        with suppress(OSError):
            self._fcntl.flock(file, self._fcntl.LOCK_EX | self._fcntl.LOCK_NB)
            self._file(name).unlink()
        file.close()

    def begin(self) -> None:
        """Wait for the file of turns."""
        self._lock(TURN, self._fcntl.LOCK_EX)

    def end(self) -> None:
        """Unlock the file of turns, which stays for the next one."""
        self._held.pop(TURN).close()

    def holder(self, name: str) -> str:
        """What the last one who locked the file wrote into it."""
        try:
            return self._file(name).read_text() or "another process"
        except OSError:
            return "another process"

    def check(self) -> None:
        """Nothing: a file that is locked stays so."""

    def close(self) -> None:
        """Let go of every lock."""
        self.take(TURN)  # so that its file is removed too
        for name in list(self._held):
            self.release(name)

    def _file(self, name: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{_key(self._study, name).hex()[:12]}.lock")

    def _lock(self, name: str, how: int) -> bool:
        path = self._file(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("a+b").close()
        except OSError as error:
            raise StudyError(
                f"{path} cannot be written: {error.strerror}; give a storage= in another folder"
            ) from error
        while True:
            file = path.open("a+b")
            try:
                self._fcntl.flock(file, how)
            except BlockingIOError:
                file.close()
                return False
            except OSError as error:  # as of a network's file system without locks
                file.close()
                raise StudyError(
                    f"{path} cannot be locked: {error.strerror}; give a storage= on a local disk, "
                    "or postgresql+psycopg://user@host/database"
                ) from error
            with suppress(FileNotFoundError):  # its holder may have removed it meanwhile
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
            file.close()
        file.truncate(0)
        file.write(here().encode())
        file.flush()
        self._held[name] = file
        return True


class PostgresLocks:
    """Advisory locks of one session of a PostgreSQL server."""

    joinable = True

    def __init__(self, storage: str, study: str) -> None:
        self._study = study
        name = f"quire {here()}"[:63]  # as much as the server keeps
        options = {"isolation_level": "AUTOCOMMIT", "connect_args": {"application_name": name}}
        engine = server(storage, **options)
        self._connection: Connection = engine.connect()
        self._shared: set[str] = set()

    def take(self, name: str, shared: bool = False) -> bool:
        """Ask the server for the lock."""
        if shared:
            self._shared.add(name)
        return bool(self._ask(f"select pg_try_advisory_lock{self._kind(name)}(:key)", name))

    def release(self, name: str) -> None:
        """Give the lock back."""
        self._ask(f"select pg_advisory_unlock{self._kind(name)}(:key)", name)
        self._shared.discard(name)

    def begin(self) -> None:
        """Wait for the lock of turns."""
        self._ask("select pg_advisory_lock(:key)", TURN)

    def end(self) -> None:
        """Give the lock of turns back."""
        self._ask("select pg_advisory_unlock(:key)", TURN)

    def holder(self, name: str) -> str:
        """The application name of a session that has the lock, which says process and host."""
        found = self._ask(
            "select min(application_name) from pg_stat_activity join pg_locks using (pid) where "
            "locktype = 'advisory' and granted and (classid::bigint << 32) | objid::bigint = :key",
            name,
        )
        return str(found or "another session").removeprefix("quire ")

    def check(self) -> None:
        """Ask the server for anything."""
        self._connection.execute(text("select 1"))

    def close(self) -> None:
        """End the session."""
        with suppress(Exception):  # one that is broken has ended
            self._connection.close()

    def _kind(self, name: str) -> str:
        return "_shared" if name in self._shared else ""

    def _ask(self, statement: str, name: str) -> Any:
        key = int.from_bytes(_key(self._study, name)[:8], "big", signed=True)
        return self._connection.execute(text(statement), {"key": key}).scalar()
