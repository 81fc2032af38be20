"""A stored study as one driver of a search works on it, alone or beside others who joined.

Alone, a driver holds the study for itself and writes what is finished. Drivers who join share it:
each takes a turn to look at what the others have finished, to propose a plan that is new, and to
claim it. Claims stand in a register beside the study; those of a driver that is no more are void.
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

import optuna

from quire.errors import StudyError
from quire.explore.clock import Clock
from quire.explore.locks import Locks, here, open_locks
from quire.explore.objectives import Objectives
from quire.explore.records import Key, Reader, to_stored
from quire.explore.storage import LOST, T, open_storage, patiently, shown
from quire.explore.trial import Trial

Claims: TypeAlias = set[Key]

STUDY = "study"  # the lock of a study


class Seat:
    """The place of this driver at a study, held until `close` or the end of the process.

    shared: beside others who join.
    Raises StudyError where it is taken.
    """

    def __init__(self, study: str, storage: str, shared: bool) -> None:
        self.shared, self.storage, self.identity = shared, storage, uuid4().hex[:12]
        self._study, self._in_turn = study, False
        self._locks = self._sit()

    def again(self) -> None:
        """Take the place anew, if the storage has let go of it."""
        with suppress(*LOST):
            return self._locks.check()
        self._locks.close()
        self._locks = self._sit()
        return self.begin() if self._in_turn else None

    def begin(self) -> None:
        """Wait for a turn; a driver that is alone has it, if its place is still its own."""
        if self.shared:
            self._locks.begin()
        else:
            self._locks.check()
        self._in_turn = True

    def end(self) -> None:
        """End the turn."""
        if self.shared and self._in_turn:
            self._locks.end()
        self._in_turn = False

    @contextmanager
    def turn(self) -> Generator[None]:
        """A turn for the block."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def lives(self, identity: str) -> bool:
        """Whether another driver is at work."""
        if not self._locks.take(identity):
            return True
        self._locks.release(identity)
        return False

    def close(self) -> None:
        """Leave."""
        self._locks.close()

    def _sit(self) -> Locks:
        locks, where = open_locks(self.storage, self._study), shown(self.storage)
        if self.shared and not locks.joinable:
            raise StudyError(
                f"storage {where!r} is for one driver at a time, so join=True cannot be: give a "
                "journal file, or postgresql+psycopg://user@host/database"
            )
        if not locks.take(STUDY, self.shared):
            holder = locks.holder(STUDY)
            locks.close()
            raise StudyError(
                f"study {self._study!r} in {where} is being searched by {holder}: wait for it, "
                "give another name=, or start each search of it with join=True"
            )
        if self.shared:
            locks.take(self.identity)
        return locks


@contextmanager
def seat(study: str, storage: str, shared: bool) -> Generator[Seat]:
    """The place of this driver, for the block."""
    taken = Seat(study, storage, shared)
    try:
        yield taken
    finally:
        taken.close()


@dataclass(frozen=True)
class Entry:
    """A trial that is stored, under its key, with what its sampler wants to see again."""

    key: Key
    trial: Trial
    attributes: Mapping[str, Any]


class Ledger:
    """The trials of a stored study, and who is at work on what.

    trials: those that have been read, in stored order.
    others: the claims of other drivers. dropped: the plans that drivers claimed who are no more.
    """

    def __init__(
        self, stored: optuna.Study, seat: Seat, objectives: Objectives, clock: Clock
    ) -> None:
        self._stored, self._seat = stored, seat
        self._objectives, self._clock = objectives, clock
        self._reader = Reader(stored)
        self._register = _register(stored.study_name, seat) if seat.shared else None
        self._claims: Claims = set()
        self._doubtful = False
        self.trials: list[Trial] = []
        self.others: Claims = set()
        self.dropped: list[dict[str, str]] = []

    @property
    def shared(self) -> bool:
        """Whether other drivers may be at work."""
        return self._seat.shared

    def key(self, formats: Mapping[str, str], label: str = "") -> Key:
        """How claims name a trial."""
        return self._reader.plans.key(formats, label)

    def formats(self, key: Key) -> dict[str, str]:
        """The plan that a claim names."""
        return self._reader.plans.decode(key[1])

    def has(self, key: Key) -> bool:
        """Whether a trial is stored, or somebody is at work on it."""
        return key in self._reader.keys or key in self._claims or key in self.others

    @contextmanager
    def turn(self) -> Generator[list[Entry]]:
        """A turn; gives the trials that others have stored since the last one."""
        self._patiently(self._seat.begin)
        lost = False
        try:
            yield self._patiently(self.read) if self.shared else []
        except LOST:  # patience is at its end
            lost = True
            raise
        finally:
            if not lost:
                self._patiently(self._seat.end)

    def claim(self, key: Key) -> None:
        """Say, in a turn, that this driver is at work on a trial."""
        self._claims.add(key)
        self._patiently(self._publish)

    def keep(self, trial: Trial, attributes: Mapping[str, Any]) -> list[Entry]:
        """Store a trial, unless it is there already; gives what is new in the study."""
        key = self.key(trial.formats, trial.label)
        record = to_stored(trial, self._objectives, self._reader.plans, attributes)
        with self._clock("storage"), self.turn() as new:
            self._patiently(lambda: self._add(key, record, new))
            self._claims.discard(key)
            return new + self._patiently(self.read)

    def read(self) -> list[Entry]:
        """The trials that were stored since the last reading; and what others are at work on."""
        new = [
            Entry(self.key(trial.formats, trial.label), trial, record.system_attrs)
            for trial, record in self._reader.read()
        ]
        self.trials += [entry.trial for entry in new]
        if self._register is not None:
            self._look_around(self._register)
        return new

    def _look_around(self, register: optuna.Study) -> None:
        """Read the claims of others; clear those of drivers that are no more."""
        self.others = set()
        for identity, entry in register.user_attrs.items():
            listed = {(label, tuple(plan)) for label, plan in entry["claims"]}
            claims: Claims = listed - self._reader.keys
            if not claims or identity == self._seat.identity:
                continue
            if self._seat.lives(identity):
                self.others |= claims
            else:
                self.dropped += [self.formats(key) for key in sorted(claims) if not key[0]]
                register.set_user_attr(identity, {**entry, "claims": []})

    def _publish(self) -> None:
        if self._register is not None:
            claims = [[label, list(plan)] for label, plan in sorted(self._claims)]
            entry = {"who": here(), "since": time.time(), "claims": claims}
            self._register.set_user_attr(self._seat.identity, entry)

    def _add(self, key: Key, record: optuna.trial.FrozenTrial, new: list[Entry]) -> None:
        """Add a record; if an earlier call failed, not where it did so after the record was in."""
        if self._doubtful:
            new += self.read()
        if key not in self._reader.keys:
            self._doubtful = True
            self._stored.add_trial(record)
        self._doubtful = False

    def _patiently(self, act: Callable[[], T]) -> T:
        return patiently(self._seat.storage, act, self._seat.again)


def _register(study: str, seat: Seat) -> optuna.Study:
    """Where the drivers of a study keep their claims: the attributes of a study of its own."""
    return optuna.create_study(
        study_name=f"drivers of {study}", storage=open_storage(seat.storage), load_if_exists=True
    )
