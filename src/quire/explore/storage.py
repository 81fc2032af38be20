"""Where finished trials are kept: a journal file by default, any Optuna storage by URL.

A journal serves several processes, SQLite one, PostgreSQL many machines. A trial is written once,
when it is finished, as one record that is on the disk before the search goes on. So a killed search
leaves no half-finished trial behind, and nothing has to be cleaned up.
"""

import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import IO, Any, TypeVar, cast

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import BaseJournalBackend
from rich.console import Console
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from quire.errors import StudyError

T = TypeVar("T")


def shown(storage: str) -> str:
    """A storage in words, without a password."""
    with suppress(ArgumentError):  # it is no URL
        return make_url(storage).render_as_string() if "://" in storage else storage
    return storage


@contextmanager
def optuna_quiet() -> Generator[None]:
    """Optuna reports each study that it makes as news; only its warnings are."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def open_storage(storage: str) -> BaseStorage:
    """The storage of a path (a journal file, made where there is none) or of an Optuna URL."""
    try:
        if is_postgresql(storage):
            return _open_postgresql(storage)
        if "://" in storage:
            return get_storage(storage)
        return JournalStorage(JournalFile(Path(storage)))
    except StudyError:
        raise
    except Exception as error:  # each backend and database driver has exceptions of its own
        problem = f"{type(error).__name__}: {error}"
        raise StudyError(f"storage {shown(storage)!r} cannot be opened: {problem}") from error


def is_postgresql(storage: str) -> bool:
    """Whether the URL of a storage names a PostgreSQL server."""
    return storage.startswith(("postgresql://", "postgresql+"))


SERVERS: dict[str, RDBStorage] = {}
"""The one storage of this process for each server, so that its connections serve every study."""


def _open_postgresql(storage: str) -> BaseStorage:
    """Connections are tried before use, since the server may have been started anew."""
    if storage not in SERVERS:
        options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}
        with _tables_in_turn(storage):
            SERVERS[storage] = RDBStorage(storage, engine_kwargs=options)
    return get_storage(SERVERS[storage])


def server(storage: str, **options: Any) -> Engine:
    """A PostgreSQL server, each connection to which is a session of its own.

    Raises StudyError where its driver is not installed.
    """
    try:
        return create_engine(storage, poolclass=NullPool, **options)
    except ImportError as error:
        raise StudyError(
            f"storage {shown(storage)!r}: {error}; pip install 'quire[postgresql]' and write "
            "postgresql+psycopg://user@host/database"
        ) from error


@contextmanager
def _tables_in_turn(storage: str) -> Generator[None]:
    """Of two processes that find a new database, one makes the tables."""
    with server(storage).connect() as connection:
        connection.execute(text("select pg_advisory_xact_lock(hashtext('quire tables'))"))
        yield


PATIENCE = 60.0  # seconds in which a database that was killed should be there again
PAUSE = 1.0  # seconds between two tries
LOST = (SQLAlchemyError, StorageInternalError)  # what Optuna raises where a database is gone


@contextmanager
def database_errors(storage: str) -> Generator[None]:
    """The errors of a database as a StudyError; after the block its connections are closed."""
    try:
        yield
    except LOST as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        problem, *_ = str(cause or error).strip().split("\n")
        raise StudyError(
            f"storage {shown(storage)!r} fails: {problem}; what is in it is kept: the "
            "same search goes on once the database is there"
        ) from error
    finally:
        if storage in SERVERS:
            SERVERS[storage].engine.dispose()


def patiently(storage: str, act: Callable[[], T], again: Callable[[], object] = int) -> T:
    """`act()`; while a PostgreSQL server is gone, it is tried again for `PATIENCE` seconds.

    act: what may be done twice. again: called before it is.
    """
    deadline = time.monotonic() + PATIENCE
    waiting = False
    while True:
        try:
            if waiting:
                again()
            return act()
        except LOST:
            if not is_postgresql(storage) or time.monotonic() > deadline:
                raise
        if not waiting:
            tell(f"{shown(storage)} is gone: waiting {PATIENCE:.0f} s for it.")
        waiting = True
        time.sleep(PAUSE)


def tell(message: str) -> None:
    """Print a message on standard error."""
    Console(stderr=True).print(message, highlight=False, markup=False, soft_wrap=True)


START = b'{"op_code":'
"""How a record of Optuna begins (`JournalStorage`), and so the file."""

OTHER = "give another file, which is made where there is none"


class JournalFile(BaseJournalBackend):
    """Optuna's journal: a file of JSON lines, of which only whole ones count.

    Optuna's own file backend refuses a file whose last line was cut off by a kill once another one
    follows, and its lock outlives the killed process by 30 s; this one drops such a line, and the
    system releases its lock. Files are interchangeable.

    read_only: the file is there, and is never written to.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self._path, self._read_only = path, read_only
        self._offsets = [0]  # of the lines that were read
        if not read_only:
            file_locks()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with path.open("rb") as file:
            head = file.read(len(START))
        if not START.startswith(head):  # appending would cut its last line off where it has no end
            raise StudyError(f"storage '{path}' is no journal of a study: {OTHER}")

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The records from that number on."""
        number = min(log_number_from, len(self._offsets) - 1)
        with self._path.open("rb") as file:
            file.seek(self._offsets[number])
            for line in file:
                if not line.endswith(b"\n"):
                    return
                number += 1
                if number == len(self._offsets):
                    self._offsets.append(self._offsets[-1] + len(line))
                if number > log_number_from:
                    yield self._record(line, number)

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise StudyError(
                f"storage '{self._path}' is damaged: line {number} is no record; {OTHER}"
            )
        return cast("dict[str, Any]", record)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Add records; they are on the disk when this returns."""
        if self._read_only:
            raise StudyError(f"storage '{self._path}' was opened to be read only")
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        fcntl = file_locks()
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _drop_torn_line(file)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())


def file_locks() -> ModuleType:
    """The module `fcntl`, which not every system has."""
    try:
        import fcntl
    except ImportError:
        raise StudyError(
            "this system has no file locks for a journal: give storage='sqlite:///study.db'"
        ) from None
    return fcntl


def _drop_torn_line(file: IO[bytes]) -> None:
    """Cut off a last line that has no end; its writer was killed."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return
    file.seek(end - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
