"""`quire search --watch` beside a search in another process: it ends with it and writes nothing."""

import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from quire.errors import StudyError
from quire.explore import Study
from quire.explore.watch import Watch

TASK = """
import time
import torch
from torch import nn
from quire import Task

def task():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    x = torch.randn(16, 16)
    y = model(x).detach()

    def evaluate(q):
        time.sleep(0.1)
        return {"error": 0.01 + float((q(x) - y).square().mean())}

    return Task(model, (x[:2],), evaluate)
"""
FORMATS = ["-f", "mxint3", "-f", "mxint4", "-f", "mxint6"]
SEARCH = ["search", "watched:task", *FORMATS, "-o", "error=min", "-o", "bits=min"]
QUIRE = [sys.executable, "-m", "quire"]
STORAGES = ["study.journal", pytest.param("sqlite:///study.db", marks=pytest.mark.nightly)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "watched.py").write_text(TASK)
    return tmp_path


@pytest.fixture
def searches(folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Searches that a test starts, which end with it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def start(folder: Path, storage: str, trials: int) -> subprocess.Popen[bytes]:
    """A search, once its study has a trial."""
    command = [*QUIRE, *SEARCH, "--storage", storage, "--trials", str(trials)]
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=folder, stderr=null, stdout=null)
    file = folder / storage.rpartition("/")[2]
    for _ in range(600):
        if file.exists() and has_trial(folder, storage):
            return process
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError("no trial in a minute")


def has_trial(folder: Path, storage: str) -> bool:
    try:
        return len(Watch("search", place(folder, storage)).look().trials) > 0
    except (StudyError, KeyError):  # the study has no name yet, or says nothing of itself
        return False


def place(folder: Path, storage: str) -> str:
    return storage.replace("study.", f"{folder}/study.")


def watch(folder: Path, storage: str, *more: str) -> subprocess.Popen[str]:
    command = [*QUIRE, "search", "--watch", "--storage", storage, *more]
    environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=pipe, stderr=pipe
    )


@pytest.mark.parametrize("storage", STORAGES)
def test_a_running_study_is_followed_to_its_end(
    folder: Path, searches: list[subprocess.Popen[bytes]], storage: str
) -> None:
    searches.append(start(folder, storage, trials=70))
    watched = watch(folder, storage)
    assert searches[0].poll() is None  # it is still at work
    output, errors = watched.communicate(timeout=120)
    assert (watched.returncode, errors) == (0, "")
    assert searches[0].wait(60) == 0
    study = Study.load("search", place(folder, storage))
    assert "70 of 70 trials" in output
    rows = [line.split() for line in output.splitlines()]
    numbers = {row[0] for row in rows if len(row) >= 3 and row[0].isdigit()}
    front = [str(trial.number) for trial in study.pareto()]
    assert {front[0], front[-1]} <= numbers <= set(front)
    best = study.best_trial()
    assert f"best  error {best.metrics['error']:.5g} · bits {best.metrics['bits']:.5g}" in output


def test_ctrl_c_ends_the_view_and_not_the_search(
    folder: Path, searches: list[subprocess.Popen[bytes]]
) -> None:
    searches.append(start(folder, "study.journal", trials=5000))
    terminal, end = pty.openpty()  # on which the view is drawn anew at each look
    watched = subprocess.Popen([*QUIRE, "search", "--watch"], cwd=folder, stdout=end, stderr=end)
    os.close(end)
    seen = b""
    while seen.count(b"of 5,000 trials") < 2:
        seen += os.read(terminal, 4096)
    watched.send_signal(signal.SIGINT)
    with suppress(OSError):  # the end of a terminal
        while rest := os.read(terminal, 4096):
            seen += rest
    os.close(terminal)
    assert watched.wait(30) == 0
    assert b"Traceback" not in seen
    assert searches[0].poll() is None


@pytest.mark.parametrize("storage", STORAGES)
def test_a_watch_writes_nothing(folder: Path, storage: str) -> None:
    command = [*QUIRE, *SEARCH, "--storage", storage, "--trials", "6"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    file = folder / storage.rpartition("/")[2]
    if file.suffix == ".journal":
        with file.open("ab") as torn:
            torn.write(b'{"op_code":')  # a record that its writer has not finished
    before = {path.name: path.read_bytes() for path in folder.glob("study.*")}
    watched = watch(folder, storage)
    output, errors = watched.communicate(timeout=60)
    assert (watched.returncode, errors) == (0, "")
    assert "6 of 6 trials" in output
    assert {path.name: path.read_bytes() for path in folder.glob("study.*")} == before


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_not_there_is_an_error_and_is_not_made(folder: Path, storage: str) -> None:
    watched = watch(folder, storage)
    output, errors = watched.communicate(timeout=60)
    assert (watched.returncode, output) == (2, "")
    assert "there is no study file" in errors
    assert not list(folder.glob("study.*"))


def test_a_database_without_a_study_is_an_error(folder: Path) -> None:
    sqlite3.connect(folder / "study.db").close()
    (folder / "study.db").touch()
    with pytest.raises(StudyError, match="there is no study in sqlite:///"):
        Watch("search", f"sqlite:///{folder}/study.db")


def test_a_study_of_another_name_is_an_error(folder: Path) -> None:
    command = [*QUIRE, *SEARCH, "--trials", "2", "--name", "mine"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    with pytest.raises(StudyError, match=r"is named 'yours'; its studies: mine$"):
        Watch("yours", str(folder / "study.journal"))
