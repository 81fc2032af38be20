"""A stored study as one sees it who only looks: nothing is written, and no file is made."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from sqlalchemy import inspect
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from quire.errors import StudyError
from quire.explore.records import ATTRIBUTE
from quire.explore.storage import (
    JournalFile,
    database_errors,
    is_postgresql,
    optuna_quiet,
    server,
    shown,
)
from quire.explore.study import Study

KIND = "sensitivities "
"""How the names of what is no search begin (`quire.explore.measurements`)."""

TABLE = "studies"
"""The table of a database in which Optuna keeps them."""


class Watch:
    """A study that another process may be running.

    Raises StudyError where there is no such storage, or no study of that name in it.
    """

    def __init__(self, name: str, storage: str) -> None:
        with optuna_quiet(), database_errors(storage):
            opened = _open(storage)
            names = [found.study_name for found in opened.get_all_studies()]
            if name not in names:
                known = ", ".join(n for n in names if not n.startswith(KIND))
                raise StudyError(
                    f"no study in {shown(storage)} is named {name!r}; its studies: {known}"
                )
            self._stored = optuna.load_study(study_name=name, storage=opened)
        self._storage = storage
        if ATTRIBUTE not in self._stored.user_attrs:
            raise StudyError(
                f"study {name!r} in {shown(storage)} is not one of Quire's: name another"
            )

    def look(self) -> Study:
        """The study as it is now."""
        with optuna_quiet(), database_errors(self._storage):
            return Study.from_stored(self._stored)


def _open(storage: str) -> BaseStorage:
    """A storage that cannot be written to."""
    if "://" not in storage:
        _check_there(Path(storage), storage)
        return JournalStorage(JournalFile(Path(storage), read_only=True))
    url = make_url(storage)
    if url.get_backend_name() == "sqlite" and url.database:
        path = Path(url.database)
        _check_there(path, storage)
        read_only = f"sqlite:///file:{quote(str(path.absolute()))}?mode=ro&uri=true"
        return _database(read_only, storage, {})
    if is_postgresql(storage):
        options = {"options": "-c default_transaction_read_only=on", "connect_timeout": 10}
        return _database(storage, storage, options)
    return get_storage(storage)


def _database(url: str, storage: str, options: dict[str, Any]) -> BaseStorage:
    """The storage of a database, whose tables must be there, as Optuna would make them."""
    with server(url, connect_args=options).connect() as connection:
        if not inspect(connection).has_table(TABLE):
            place = shown(storage)
            raise StudyError(f"there is no study in {place}: give the --storage of the search")
    settings = {"poolclass": NullPool, "connect_args": options}  # nothing stays open between looks
    return get_storage(RDBStorage(url, engine_kwargs=settings, skip_table_creation=True))


def _check_there(path: Path, storage: str) -> None:
    if not path.is_file():
        raise StudyError(f"there is no study file {storage}: give the --storage of the search")
