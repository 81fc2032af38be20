"""Locks beside a file: whom they keep out, who holds them, what a kill leaves behind."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quire.errors import StudyError
from quire.explore.ledger import Seat
from quire.explore.locks import FileLocks, NoLocks, open_locks

Make = Callable[..., FileLocks]


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[Callable[..., FileLocks]]:
    """Makes locks beside the file j; they are closed in the end."""
    made: list[FileLocks] = []

    def make(study: str = "s") -> FileLocks:
        made.append(FileLocks(tmp_path / "j", study, joinable=True))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_lock_keeps_others_out_until_it_is_released(locks: Make) -> None:
    first, second = locks(), locks()
    assert first.take("study")
    assert not second.take("study")
    assert not second.take("study", shared=True)
    assert second.take("other")
    assert locks("another study").take("study")
    assert second.holder("study").startswith(f"process {os.getpid()} on ")
    first.release("study")
    assert second.take("study")


def test_a_shared_lock_keeps_out_only_who_wants_it_alone(locks: Make) -> None:
    first, second, third = (locks() for _ in range(3))
    assert first.take("study", shared=True)
    assert second.take("study", shared=True)
    assert not third.take("study")
    first.close()
    assert not third.take("study")
    second.close()
    assert third.take("study")


def test_nothing_is_left_of_locks_that_were_let_go(locks: Make, tmp_path: Path) -> None:
    first = locks()
    first.take("study")
    first.take("other", shared=True)
    first.begin()
    assert len(list(tmp_path.iterdir())) == 3
    first.end()
    first.close()
    assert not list(tmp_path.iterdir())


HOLDER = """
import sys, time
from pathlib import Path
from quire.explore.locks import FileLocks
locks = FileLocks(Path(sys.argv[1]), "s", joinable=True)
assert locks.take("study")
print("held", flush=True)
time.sleep(60)
"""


def test_a_kill_releases_a_lock(locks: Make, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "j")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    mine = locks()
    assert not mine.take("study")
    assert mine.holder("study").startswith(f"process {process.pid} on ")
    process.kill()
    process.communicate()
    assert mine.take("study")
    mine.close()
    assert not list(tmp_path.iterdir())


COUNTER = """
import sys
from pathlib import Path
from quire.explore.locks import FileLocks
locks, count = FileLocks(Path(sys.argv[1]), "s", joinable=True), Path(sys.argv[1] + ".count")
for _ in range(300):
    locks.begin()
    count.write_text(str(int(count.read_text()) + 1))
    locks.end()
"""


def test_turns_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "j.count").write_text("0")
    command = [sys.executable, "-c", COUNTER, str(tmp_path / "j")]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert (tmp_path / "j.count").read_text() == "600"


def test_which_storage_has_which_locks(tmp_path: Path) -> None:
    assert open_locks(str(tmp_path / "j"), "s").joinable
    sqlite = open_locks(f"sqlite:///{tmp_path}/j.db", "s")
    assert isinstance(sqlite, FileLocks)
    assert not sqlite.joinable
    for storage in ("sqlite://", "sqlite:///:memory:", "mysql://host/db"):
        assert isinstance(open_locks(storage, "s"), NoLocks)


def test_a_seat_that_is_taken_is_refused(tmp_path: Path) -> None:
    storage = str(tmp_path / "j")
    first = Seat("s", storage, shared=False)
    words = rf"study 's' in .*j is being searched by process {os.getpid()} on .*join=True"
    for shared in (False, True):
        with pytest.raises(StudyError, match=words):
            Seat("s", storage, shared)
    first.close()
    joined = [Seat("s", storage, shared=True) for _ in range(2)]
    assert joined[0].lives(joined[1].identity)
    joined[1].close()
    assert not joined[0].lives(joined[1].identity)
    with pytest.raises(StudyError, match="being searched by"):
        Seat("s", storage, shared=False)
    joined[0].close()
    with pytest.raises(StudyError, match=r"one driver at a time.*journal file"):
        Seat("s", f"sqlite:///{tmp_path}/j.db", shared=True)


def test_a_seat_whose_locks_stand_is_kept_in_its_turn(locks: Make, tmp_path: Path) -> None:
    seat = Seat("s", str(tmp_path / "j"), shared=True)
    seat.begin()
    seat.again()
    other = locks()
    assert not other.take("study")
    assert not other.take("turn")
    seat.end()
    assert other.take("turn")
    seat.close()
    assert other.take("study")


def test_a_server_whose_driver_is_missing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        StudyError, match=r"quire:\*\*\*@host/db'.*pip install 'quire\[postgresql\]'"
    ):
        Seat("s", "postgresql+psycopg://quire:secret@host/db", shared=False)
