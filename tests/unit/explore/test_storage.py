"""The journal file: what is read back, what a kill leaves behind, Optuna's own backend."""

import multiprocessing
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from quire.errors import StudyError
from quire.explore.storage import JournalFile, open_storage

LOGS = [{"op_code": i, "text": "x" * i} for i in range(20)]


def test_records_come_back_from_any_number_on(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path / "new" / "j")
    journal.append_logs(LOGS[:5])
    assert list(journal.read_logs(0)) == LOGS[:5]
    journal.append_logs(LOGS[5:])
    assert list(journal.read_logs(5)) == LOGS[5:]
    assert list(JournalFile(tmp_path / "new" / "j").read_logs(18)) == LOGS[18:]
    assert list(journal.read_logs(20)) == []


@pytest.mark.parametrize("kept", [0, 1, 60, 121])
def test_a_torn_last_line_is_dropped(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "j"
    JournalFile(path).append_logs(LOGS[:3])
    whole = path.read_bytes()
    JournalFile(path).append_logs([{"long": "y" * 110}])
    path.write_bytes(path.read_bytes()[: len(whole) + kept])
    journal = JournalFile(path)
    assert list(journal.read_logs(0)) == LOGS[:3]
    journal.append_logs(LOGS[3:5])
    assert list(JournalFile(path).read_logs(0)) == LOGS[:5]


def _append(path: Path, start: int) -> None:
    journal = JournalFile(path)
    for i in range(start, start + 50):
        journal.append_logs([{"op_code": i, "text": "z" * 5000}])


def test_two_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "j"
    workers = [context.Process(target=_append, args=(path, start)) for start in (0, 50)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(log["op_code"] for log in JournalFile(path).read_logs(0)) == list(range(100))


def test_files_are_interchangeable_with_optunas_own_backend(tmp_path: Path) -> None:
    path = tmp_path / "j"
    ours = optuna.create_study(study_name="s", storage=open_storage(str(path)))
    ours.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    theirs = optuna.load_study(
        study_name="s", storage=JournalStorage(JournalFileBackend(str(path)))
    )
    assert [t.params for t in theirs.trials] == [t.params for t in ours.trials]


def test_what_is_no_storage_is_refused(tmp_path: Path) -> None:
    for text in ("hello\n", "hello", '{"version": 1}', "[]\n"):  # without an end it looked torn
        (tmp_path / "notes.txt").write_text(text)
        with pytest.raises(StudyError, match=r"notes\.txt' is no journal of a study"):
            open_storage(str(tmp_path / "notes.txt"))
        assert (tmp_path / "notes.txt").read_text() == text
    with pytest.raises(StudyError, match="nosuch://"):
        open_storage("nosuch://host/db")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path / "j")
    journal.append_logs(LOGS[:2])
    with (tmp_path / "j").open("a") as file:
        file.write('{"op_code":\n')
    journal.append_logs(LOGS[2:3])
    with pytest.raises(StudyError, match="j' is damaged: line 3 is no record"):
        list(JournalFile(tmp_path / "j").read_logs(0))


def test_a_system_without_file_locks_is_sent_to_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(StudyError, match="sqlite:///"):
        open_storage(str(tmp_path / "j"))
