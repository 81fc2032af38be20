"""A search that is killed (SIGKILL) again and again loses no finished trial and repeats none."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from quire.explore import Study
from quire.explore.storage import open_storage

TRIALS = 120
KILLS = 4

SEARCH = """
import json, os, sys
import torch
from torch import nn
from quire.explore import Task, Trial, search

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
x = torch.randn(16, 32)
y = model(x).detach()

def write(kind, **what):
    log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(log, (json.dumps({"kind": kind, **what}) + "\\n").encode())
    os.fsync(log)
    os.close(log)

def evaluate(q):
    error = float((q(x) - y).square().mean())
    write("evaluated", error=error, pid=os.getpid())
    return {"error": error}

def finished(trial):
    write("finished", number=trial.number, metrics=trial.metrics, formats=trial.formats)

search(
    Task(model, (x[:2],), evaluate),
    ["mxint3", "mxint4", "mxint6", "mxint8", "mxfp4"],
    {"error": "min", "bits": "min"},
    limits={"bits": 7.0}, trials=int(sys.argv[1]), sampler="random", progress=False,
    storage=sys.argv[2], on_trial=finished, **json.loads(sys.argv[3]),
)
"""


def start(folder: Path, storage: str, **options: Any) -> subprocess.Popen[bytes]:
    (folder / "killed_search.py").write_text(SEARCH)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "killed_search.py", str(TRIALS), storage, json.dumps(options)]
    return subprocess.Popen(command, cwd=folder, env=environment)


def read_log(folder: Path, kind: str) -> list[dict[str, Any]]:
    path = folder / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    return [record for record in records if record.pop("kind") == kind]


def kill_after(process: subprocess.Popen[bytes], folder: Path, lines: int, delay: float) -> None:
    """Kill the search some time after it has written that many lines more."""
    path = folder / "log"
    before = path.stat().st_size if path.exists() else 0
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes()[before:].count(b"\n") < lines:
        assert process.poll() is None, "the search ended by itself"
        assert time.monotonic() < deadline, "the search does not start"
        time.sleep(0.0005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def check_stored(folder: Path, storage: str, kills: int) -> None:
    """Every trial that was reported is stored as it was; at most one a kill was not reported."""
    trials = Study.load("search", storage).trials
    finished = read_log(folder, "finished")
    for record in finished:
        trial = trials[record["number"]]
        assert record == {k: getattr(trial, k) for k in ("number", "metrics", "formats")}
    numbers = [record["number"] for record in finished]
    assert len(set(numbers)) == len(numbers)
    assert len(trials) - 1 - len(numbers) <= kills  # the baseline is not reported
    plans = {json.dumps(trial.formats) for trial in trials}
    assert len(plans) == len(trials)


CASES = [
    pytest.param("study.journal", {}, id="journal"),
    pytest.param("sqlite:///study.db", {}, id="sqlite", marks=pytest.mark.nightly),
    pytest.param("study.journal", {"workers": 2}, id="workers", marks=pytest.mark.nightly),
]


@pytest.mark.parametrize(("url", "options"), CASES)
def test_no_finished_trial_is_lost_or_repeated(
    tmp_path: Path, url: str, options: dict[str, Any]
) -> None:
    storage = url.replace("study", str(tmp_path / "study"))
    rng = random.Random(url)
    for kill in range(1, KILLS + 1):
        process = start(tmp_path, storage, **options)
        kill_after(process, tmp_path, rng.randrange(1, 30), rng.random() * 0.01)
        if read_log(tmp_path, "finished"):
            check_stored(tmp_path, storage, kill)
    assert start(tmp_path, storage, **options).wait() == 0
    check_stored(tmp_path, storage, KILLS)
    check_complete(storage)
    assert not list(tmp_path.glob("*.lock"))
    at_work = options.get("workers", 1)  # a kill costs the evaluations that it falls into
    assert TRIALS <= len(read_log(tmp_path, "evaluated")) <= TRIALS + KILLS * at_work


def check_complete(storage: str) -> None:
    records = optuna.load_study(study_name="search", storage=open_storage(storage)).trials
    assert [record.number for record in records] == list(range(TRIALS))
    assert {record.state for record in records} == {TrialState.COMPLETE}


@pytest.mark.nightly
def test_workers_that_are_killed_cost_what_they_were_at(tmp_path: Path) -> None:
    storage = str(tmp_path / "study.journal")
    process = start(tmp_path, storage, workers=2)
    for kill in range(1, KILLS + 1):
        while len(read_log(tmp_path, "evaluated")) < 20 * kill:
            assert process.poll() is None
            time.sleep(0.001)
        os.kill(read_log(tmp_path, "evaluated")[-1]["pid"], signal.SIGKILL)
    assert process.wait() == 0
    check_stored(tmp_path, storage, 0)
    check_complete(storage)
    evaluated = read_log(tmp_path, "evaluated")
    pids = {record["pid"] for record in evaluated}
    assert KILLS + 1 <= len(pids) <= KILLS + 2  # the last of them may come too late
    assert TRIALS <= len(evaluated) <= TRIALS + KILLS


@pytest.mark.nightly
def test_searches_that_join_and_are_killed_share_the_trials(tmp_path: Path) -> None:
    storage, rng = str(tmp_path / "study.journal"), random.Random(0)
    searches = [start(tmp_path, storage, join=True) for _ in range(2)]
    for _ in range(KILLS):
        kill_after(searches.pop(0), tmp_path, rng.randrange(4, 20), rng.random() * 0.01)
        searches.append(start(tmp_path, storage, join=True))
    assert [search.wait() for search in searches] == [0, 0]
    trials = Study.load("search", storage).trials
    assert len({json.dumps(trial.formats) for trial in trials}) == len(trials) == TRIALS
    check_complete(storage)
    assert TRIALS <= len(read_log(tmp_path, "evaluated")) <= TRIALS + KILLS


def test_ctrl_c_ends_with_a_summary(tmp_path: Path) -> None:
    storage = str(tmp_path / "study.journal")
    (tmp_path / "killed_search.py").write_text(SEARCH)
    process = subprocess.Popen(
        [sys.executable, "killed_search.py", "100000", storage, "{}"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, and what they start, ignore Ctrl-C unless told otherwise.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(read_log(tmp_path, "finished")) < 20:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors
    count = len(Study.load("search", storage).trials)
    assert f"Stopped after {count} of 100000 trials" in " ".join(errors.split())
    assert count >= 20
