"""How well a search spreads over the cores of a machine: trials a second with one worker and two.

The model has the shape of the digits ViT with random weights (`search_overhead.py`), evaluated on
so many images that a plan takes about a tenth of a second. One worker is this process, on one
thread; two are processes of their own. Both try the same plans. The runs take turns. "efficiency"
is the rate of two workers over twice that of one: from the tenth trial on, when all workers are
there ("steady"), and of the whole search, starts included ("whole"). Medians of the rounds, with
the least and the greatest. "driver" is the part of a run that the driver itself is busy.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import torch
from record import record
from search_overhead import FORMATS, WIDTH, Layer
from torch import nn

from quire.explore import Task, Trial, search

IMAGES, TOKENS, SKIPPED = 2880, 16, 10


def make_task() -> Task:
    torch.manual_seed(0)
    layers = [Layer() for _ in range(2)]
    model = nn.Sequential(nn.Linear(4, WIDTH), *layers, nn.Linear(WIDTH, 10)).eval()
    x = torch.randn(IMAGES, TOKENS, 4)
    y = model(x).detach()

    def evaluate(q: nn.Module) -> dict[str, float]:
        return {"error": float((q(x) - y).square().mean())}

    return Task(model, (x[:2],), evaluate, calibration=(x[:64],))


def run(task: Task, workers: int, trials: int) -> dict[str, float]:
    """Seconds a trial of one search: steady, whole, evaluating, and of the driver."""
    times: list[float] = []

    def note(trial: Trial) -> None:
        times.append(time.perf_counter())

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        study = search(
            task,
            FORMATS,
            {"error": "min", "bits": "min"},
            limits={"bits": 5.0},
            trials=trials,
            workers=workers,
            sampler="random",
            storage=f"{folder}/study.journal",
            progress=False,
            on_trial=note,
        )
    ended = time.perf_counter()
    assert not study.failed
    evaluating = statistics.median(trial.seconds for trial in study.trials[SKIPPED:])
    return {
        "steady": (times[-1] - times[SKIPPED]) / (len(times) - 1 - SKIPPED),
        "whole": (ended - started) / trials,
        "evaluating": evaluating,
        "driver": sum(study.timing[name] for name in ("sampler", "storage")) / trials,
    }


def spread(values: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(values), "least": min(values), "greatest": max(values)}
    return {name: round(value, 5) for name, value in found.items()}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--trials", type=int, default=200)
    given = options.parse_args()
    torch.set_num_threads(1)
    task = make_task()
    runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    for _ in range(given.rounds):
        for workers, found in runs.items():
            found.append(run(task, workers, given.trials))
    figures: dict[str, Any] = {
        f"workers={workers}, seconds a trial": {
            name: spread([r[name] for r in found]) for name in found[0]
        }
        for workers, found in runs.items()
    }
    for kind in ("steady", "whole"):
        pairs = zip(runs[1], runs[2], strict=True)
        figures[f"efficiency, {kind}"] = spread([one[kind] / (2 * two[kind]) for one, two in pairs])
    record("search_scale", {"trials": given.trials, "rounds": given.rounds, **figures})


if __name__ == "__main__":
    main()
