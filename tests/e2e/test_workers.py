"""Searches whose plans are evaluated by other processes: what they give, and what kills do."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quire.explore import Study, Task, search, sensitivity

FORMATS = ["mxint2", "mxint4", "mxint8", "mxfp4", "fixed(4,fitted)"]


def nothing(q: nn.Module) -> None: ...


def make_task(more: Callable[[nn.Module], object] = nothing) -> Task:
    """`more` is called in each evaluation; everything here goes to workers by value."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 24), nn.GELU(), nn.Linear(24, 4)).eval()
    x = torch.randn(64, 32)
    y = model(x).detach()

    def evaluate(q: nn.Module) -> dict[str, float]:
        more(q)
        return {"error": float((q(x) - y).square().mean())}

    return Task(model, (x[:2],), evaluate, calibration=(x,))


def run(task: Task, folder: Path, **options: Any) -> Study:
    given: dict[str, Any] = {"trials": 30, "limits": {"bits": 6.0}, "progress": False} | options
    storage = str(folder / "study.journal")
    return search(task, FORMATS, {"error": "min", "bits": "min"}, storage=storage, **given)


def by_plan(study: Study) -> dict[str, tuple[str, Any]]:
    return {json.dumps(t.formats): (t.state, dict(t.metrics)) for t in study.trials}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_workers_try_the_plans_that_one_would_and_measure_the_same(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def slowly(q: nn.Module) -> None:
        """Writes down who runs it; of all but the baseline, none ends before two are at work."""
        first = not pids.exists()
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not first and len(set(pids.read_text().split())) < 2:
            time.sleep(0.01)
        time.sleep(0.01)

    two = run(make_task(slowly), tmp_path, workers=2, sampler="grid")
    one = run(make_task(), tmp_path, name="one", sampler="grid")
    assert by_plan(two) == by_plan(one)
    assert [trial.number for trial in two.trials] == list(range(30))
    counts = Counter(pids.read_text().split())
    assert str(os.getpid()) not in counts
    assert len(counts) == 2
    assert sum(counts.values()) == 30
    assert two.timing["evaluate"] > 30 * 0.01
    for pid in counts:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_sensitivities_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    task = make_task()
    one, two = (
        sensitivity(task, FORMATS, storage=str(tmp_path / str(n)), workers=n, progress=False)
        for n in (1, 2)
    )
    torch.set_num_threads(2)
    threads = sensitivity(task, FORMATS, storage=str(tmp_path / "t"), progress=False)
    assert one.values == two.values == threads.values
    bounds = [3.0, 4.0, 5.0]
    assert one.front("bits", bounds) == two.front("bits", bounds)


def test_a_worker_that_is_killed_costs_no_trial(tmp_path: Path) -> None:
    """One plan kills the first worker that runs it, another one every worker."""

    def formats(q: nn.Module) -> list[str]:
        return [str(m.entry.format) for m in q.children() if getattr(m, "entry", None) is not None]

    def mortal(q: nn.Module) -> None:
        once = formats(q) == ["mxint2", "mxint2", "mxint2", "mxint8"]
        always = formats(q) == ["mxint2", "mxint2", "mxint4", "mxint4"]
        if always or (once and not (tmp_path / "once").exists()):
            (tmp_path / "once").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    study = run(make_task(mortal), tmp_path, workers=2, sampler="grid", trials=16)
    plain = run(make_task(), tmp_path, name="plain", sampler="grid", trials=16)
    assert (tmp_path / "once").exists()
    (failed,) = study.failed
    assert list(failed.formats.values()) == ["mxint2", "mxint2", "mxint4", "mxint4"]
    assert failed.error == (
        "3 workers ended while they did this: the last with signal 9, perhaps for want of memory"
    )
    expected = by_plan(plain)
    expected[json.dumps(failed.formats)] = ("failed", dict(failed.metrics))
    assert by_plan(study) == expected


SCRIPT = """
import os, sys, time
import torch
from torch import nn
from quire.explore import Task, search

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
x = torch.randn(16, 32)
y = model(x).detach()

def evaluate(q):  # of a script without `if __name__ == "__main__"`
    first = not os.path.exists("pids")
    with open("pids", "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not first and len(set(open("pids").read().split())) < 2:
        time.sleep(0.01)
    time.sleep(0.01)
    return {"error": float((q(x) - y).square().mean())}

search(
    Task(model, (x[:2],), evaluate), ["mxint3", "mxint4", "mxint6", "mxint8"],
    {"error": "min", "bits": "min"}, trials=100000, workers=2, sampler="random",
    on_trial=lambda trial: os.write(report, b"x"),
)
"""


def start(folder: Path) -> subprocess.Popen[str]:
    path = folder / "script.py"
    path.write_text("import os\nreport = os.open('told', os.O_CREAT | os.O_WRONLY)\n" + SCRIPT)
    return subprocess.Popen(
        [sys.executable, path.name],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, and what they start, ignore Ctrl-C unless told otherwise.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_trials(folder: Path, process: subprocess.Popen[str], trials: int) -> int:
    told = folder / "told"
    while not told.exists() or told.stat().st_size < trials:
        assert process.poll() is None
        time.sleep(0.01)
    return told.stat().st_size


def wait_for_end(folder: Path) -> None:
    """Until no worker is left."""
    pids = {int(pid) for pid in (folder / "pids").read_text().split()}
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "workers outlive their driver"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    process = start(tmp_path)
    told = wait_for_trials(tmp_path, process, 12)
    process.kill()
    process.communicate()
    wait_for_end(tmp_path)
    assert len(Study.load("search", str(tmp_path / "study.journal")).trials) >= told


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_ctrl_c_ends_workers_and_keeps_what_is_finished(tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for_trials(tmp_path, process, 12)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors
    wait_for_end(tmp_path)
    count = len(Study.load("search", str(tmp_path / "study.journal")).trials)
    assert f"Stopped after {count} of 100000 trials" in " ".join(errors.split())
    assert count >= 12
