"""Searches whose plans a Ray cluster evaluates; the cluster is started for the tests."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quire.errors import StudyError
from quire.explore import Study, Task, search, sensitivity

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # of Ray's own processes and sockets
]

FORMATS = ["mxint2", "mxint4", "mxint8", "mxfp4", "fixed(4,fitted)"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two CPUs on this machine."""
    ray: Any = pytest.importorskip("ray", reason="needs Ray: pip install 'quire[ray]'")
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error")
    yield
    ray.shutdown()


def nothing(q: nn.Module) -> None: ...


def make_task(more: Callable[[nn.Module], object] = nothing) -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 24), nn.GELU(), nn.Linear(24, 4)).eval()
    x = torch.randn(64, 32)
    y = model(x).detach()

    def evaluate(q: nn.Module) -> dict[str, float]:
        more(q)
        return {"error": float((q(x) - y).square().mean())}

    return Task(model, (x[:2],), evaluate, calibration=(x,))


def run(task: Task, folder: Path, **options: Any) -> Study:
    given: dict[str, Any] = {"trials": 16, "sampler": "grid", "progress": False} | options
    goal = {"error": "min", "bits": "min"}
    return search(task, FORMATS, goal, storage=str(folder / "study.journal"), **given)


def plans(study: Study) -> list[Any]:
    return sorted((list(t.formats.values()), t.metrics["bits"], t.state) for t in study.trials)


def test_actors_try_the_plans_that_one_worker_would(cluster: None, tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def slowly(q: nn.Module) -> None:
        """Writes down who runs it; of all but the baseline, none ends before two are at work."""
        first = not pids.exists()
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not first and len(set(pids.read_text().split())) < 2:
            time.sleep(0.01)
        assert torch.get_num_threads() == 1

    study = run(make_task(slowly), tmp_path, ray="auto")  # as many as there are CPUs
    assert not study.failed
    assert plans(study) == plans(run(make_task(), tmp_path, name="one"))
    counts = Counter(pids.read_text().split())
    assert len(counts) == 2
    assert sum(counts.values()) == 16


def test_an_actor_that_is_killed_costs_no_trial(cluster: None, tmp_path: Path) -> None:
    def mortal(q: nn.Module) -> None:
        entries = [getattr(m, "entry", None) for m in q.children()]
        formats = [str(entry.format) for entry in entries if entry is not None]
        once = formats == ["mxint2", "mxint2", "mxint2", "mxint8"]
        always = formats == ["mxint2", "mxint2", "mxint4", "mxint4"]
        if always or (once and not (tmp_path / "once").exists()):
            (tmp_path / "once").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    study = run(make_task(mortal), tmp_path, ray="auto", workers=2)
    assert (tmp_path / "once").exists()
    (failed,) = study.failed
    assert list(failed.formats.values()) == ["mxint2", "mxint2", "mxint4", "mxint4"]
    assert failed.error.startswith("3 workers ended while they did this: the last: ")
    assert len(study.trials) == 16


def test_sensitivities_are_those_of_one_process(cluster: None, tmp_path: Path) -> None:
    values = [
        sensitivity(make_task(), FORMATS, storage=str(tmp_path / str(i)), progress=False, ray=ray)
        for i, ray in enumerate((None, "auto"))
    ]
    assert values[0].values == values[1].values


def test_more_workers_than_the_cluster_has_room_for_are_refused(
    cluster: None, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match="workers=3, but the cluster has 2 CPUs, one for each"):
        run(make_task(), tmp_path, ray="auto", workers=3)


def test_each_actor_has_a_gpu_where_there_are_any(tmp_path: Path) -> None:
    ray: Any = pytest.importorskip("ray")
    ray.shutdown()
    seen = tmp_path / "seen"

    def note(q: nn.Module) -> None:
        first = not seen.exists()
        with seen.open("a") as file:
            file.write(f"{os.getpid()}:{os.environ['CUDA_VISIBLE_DEVICES']}\n")
        while not first and len(set(seen.read_text().split())) < 2:
            time.sleep(0.01)

    ray.init("local", num_cpus=4, num_gpus=2, include_dashboard=False, logging_level="error")
    try:
        study = run(make_task(note), tmp_path, ray="auto", trials=8)  # two workers, not four
    finally:
        ray.shutdown()
    assert not study.failed
    assert sorted(line.split(":")[1] for line in set(seen.read_text().split())) == ["0", "1"]


KILLED = """
import os, time
import torch
from torch import nn
from quire.explore import Task, search

model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)).eval()

def evaluate(q):
    with open(PIDS, "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.05)
    return {"error": 1.0}

search(
    Task(model, (torch.randn(16, 32),), evaluate), ["mxint3", "mxint4", "mxint6", "mxint8"],
    {"error": "min", "bits": "min"}, trials=100000, sampler="random", ray="local", workers=2,
)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_actors_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = KILLED.replace("PIDS", repr(str(pids)))
    (tmp_path / "script.py").write_text(code)
    process = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path)
    while not pids.exists() or len(pids.read_text().split()) < 20:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in set(pids.read_text().split())):
        assert time.monotonic() < deadline, "actors outlive their driver"
        time.sleep(0.05)
    assert len(Study.load("search", str(tmp_path / "study.journal")).trials) >= 18


def test_an_address_where_no_cluster_answers_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray: Any = pytest.importorskip("ray")
    ray.shutdown()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where no cluster of this machine is noted
    with pytest.raises(StudyError, match=r"ray='auto': .*start a cluster \(`ray start --head`\)"):
        run(make_task(), tmp_path, ray="auto")
