"""Searches of the digits ViT: KL on the calibration data against evaluations.

An evaluation is a forward pass over the calibration data (256 images); a backward pass counts as
two more. Every method is told the limit, and starts from the uniform plans that meet it. A seed is
another split, another initialization and another search. "program" measures isolated changes, of
which first-order scores leave out the dominated ones, solves the integer program, and moves from
there; "fisher" does so from the scores alone. `held out` is the KL of the best plan on the
validation split, which no search sees.

`--goal kl` asks for the least KL at 4.0 bits. `--goal front` asks for few bits too, up to 6.0, and
compares the hypervolume of the fronts in bits and log10 KL, negated: the mean, over sizes from 2.5
to 6.0 bits, of log10 of the best KL at most that large, or of 1 where there is none.

Each study is a journal in `--folder`: the same call goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from record import record
from scipy.stats import t as student
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from candidates import candidates
from digits import load_splits, task

import quire
from quire.explore import Study, Task, Trial, search, sensitivity
from quire.explore.divergence import KL

MARKS = (100, 200, 330, 1000)  # evaluations at which the best so far is noted
PEERS = ("tpe", "nsga2", "random", "guided")
OURS = {"program": "kl", "fisher": "fisher"}  # method: kind of its sensitivities
BFP = [f"bfp(2..6,scale_bits={bits},size={size})" for bits, size in ((8, 16), (4, 16), (8, 32))]
SPACES = ("bfp", "all")


def least(trials: list[Trial]) -> float:
    return min(trial.metrics["kl"] for trial in trials)


def minus_hypervolume(trials: list[Trial]) -> float:
    sizes = [2.5 + 0.01 * step for step in range(351)]
    fits = [[t.metrics["kl"] for t in trials if t.metrics["bits"] <= size] for size in sizes]
    return fmean(math.log10(min([*kls, 1.0])) for kls in fits)


@dataclass(frozen=True)
class Goal:
    """What is searched, under which name it is kept, and the figure of trials; less is better."""

    prefix: str
    result: str
    objectives: dict[str, str]
    bits: float
    value: Callable[[list[Trial]], float]


GOALS = {
    "kl": Goal("", "search", {"kl": "min"}, 4.0, least),
    "front": Goal("front-", "search_front", {"kl": "min", "bits": "min"}, 6.0, minus_hypervolume),
}


def main() -> None:
    torch.set_num_threads(1)
    given = _arguments()
    folder, goal = Path(given.folder), GOALS[given.goal]
    folder.mkdir(parents=True, exist_ok=True)
    methods = {**dict.fromkeys(PEERS, given.evaluations), **dict.fromkeys(OURS, given.own)}
    figures: dict[str, Any] = {"evaluations": methods, "bits": goal.bits}
    for space in given.spaces.split(","):
        rows: dict[str, list[dict[str, Any]]] = {}
        for seed in range(given.seeds):
            for method, evaluations in methods.items():
                row = part(folder, goal, space, seed, method, evaluations)
                rows.setdefault(method, []).append(row)
        figures[space] = {
            "summary": summary(rows),
            "front of the program": front_seconds(folder, space),
            "seeds": rows,
        }
    record(goal.result, figures)


def part(
    folder: Path, goal: Goal, space: str, seed: int, method: str, evaluations: int
) -> dict[str, Any]:
    """The figures of one study, read from their file if it was finished before."""
    name = f"{goal.prefix}{space}-{seed}-{method}"
    path = folder / f"{name}-{evaluations}.json"
    if path.exists():
        return json.loads(path.read_text())
    found, held_out = kl_task(seed, folder)
    study = run(found, space, f"{folder}/{name}.journal", seed, method, evaluations, goal)
    graph = quire.capture(found.model, found.example_inputs)
    with torch.no_grad():
        tested = held_out.evaluate(quire.quantize(graph, study.best()))["kl"]
    row = {
        "best": curve(study, goal.value),
        **({"program": program_value(study)} if method in OURS else {}),
        "preparation": study.preparation,
        "held out": round(tested, 6),
    }
    path.write_text(json.dumps(row, indent=1) + "\n")
    print(name, row, flush=True)
    return row


def run(
    found: Task, space: str, storage: str, seed: int, method: str, evaluations: int, goal: Goal
) -> Study:
    formats, trials = formats_of(space, found), evaluations
    options: dict[str, Any] = {"sampler": method}
    if method in OURS:
        measured = sensitivity(found, formats, storage=storage, kind=OURS[method])
        options = {"sampler": "program", "sensitivities": measured}
        trials -= measured.evaluations
    limits = {"bits": goal.bits}
    return search(
        found, formats, goal.objectives, limits=limits, trials=trials, storage=storage, seed=seed,
        **options,
    )  # fmt: skip


def formats_of(space: str, found: Task) -> Any:
    return BFP if space == "bfp" else candidates(quire.capture(found.model, found.example_inputs))


def kl_task(seed: int, folder: Path) -> tuple[Task, Task]:
    """The digits task scored by KL on the calibration images, and on the validation images."""
    plain = task(seed, 80, folder / f"{seed}.safetensors")
    (images,) = plain.calibration or ()
    return scored(plain, images), scored(plain, load_splits(seed)[1][0])


def scored(plain: Task, images: Tensor) -> Task:
    with torch.no_grad():
        reference = [plain.model(images)]

    def evaluate(model: nn.Module) -> dict[str, float]:
        return {"kl": KL.mean([KL.total(reference, [model(images)])])}

    return replace(plain, evaluate=evaluate)


def curve(study: Study, value: Callable[[list[Trial]], float]) -> dict[str, float]:
    """{evaluations: the figure of the trials so far}, sensitivities and fp32 counted."""
    found: dict[str, float] = {}
    for mark in MARKS:
        seen = [t for t in study.feasible if study.preparation + t.number + 1 <= mark]
        if seen and mark <= study.preparation + len(study.trials):
            found[str(mark)] = round(value(seen), 6)
    return found


def program_value(study: Study) -> dict[str, float]:
    """The first plan of the integer program, which follows the uniform ones, and 50 trials on."""
    first = next(trial.number for trial in study.trials if not trial.label)
    moved = [t.metrics["kl"] for t in study.feasible if t.number <= first + 50]
    return {
        "evaluations": study.preparation + 1,
        "kl": round(study.trials[first].metrics["kl"], 6),
        "kl after 50 moves": round(min(moved), 6),
    }


def front_seconds(folder: Path, space: str) -> dict[str, float]:
    """The time of 20 budgets from the sensitivities of seed 0, tables and matrices included."""
    found, _ = kl_task(0, folder)
    storage = f"{folder}/{space}-0-program.journal"
    measured = sensitivity(found, formats_of(space, found), storage=storage, progress=False)
    seconds: dict[str, float] = {}
    for cost in ("bits", "bitops"):
        started = time.perf_counter()
        program = measured.program()
        smallest = program.tables.least[cost]
        plans = program.front(cost, [smallest * (1.05 + 0.07 * step) for step in range(20)])
        seconds[f"seconds for {len(plans)} budgets of {cost}"] = time.perf_counter() - started
    return {name: round(value, 3) for name, value in seconds.items()}


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means over the seeds with 95% intervals, and the seeds in which each beats both peers."""
    pairs = zip(rows["tpe"], rows["nsga2"], strict=True)
    last = [min(list(part["best"].values())[-1] for part in pair) for pair in pairs]
    found: dict[str, Any] = {"best of tpe and nsga2 at the end": interval(last)}
    for method, parts in rows.items():
        marks = {mark: [part["best"].get(mark) for part in parts] for mark in map(str, MARKS)}
        met = {mark: values for mark, values in marks.items() if None not in values}
        found[method] = {mark: interval(values) for mark, values in met.items()}
        found[method]["held out"] = interval([part["held out"] for part in parts])
        found[method]["seeds better than that"] = {
            mark: sum(value < peer for value, peer in zip(values, last, strict=True))
            for mark, values in met.items()
        }
    return found


def interval(values: list[float]) -> dict[str, float]:
    """The mean and the half width of Student's 95% interval."""
    count = len(values)
    half = student.ppf(0.975, count - 1) * stdev(values) / math.sqrt(count) if count > 1 else 0.0
    return {"mean": round(fmean(values), 6), "half width": round(float(half), 6)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--goal", choices=list(GOALS), default="kl")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=1000, help="of the peers and guided")
    parser.add_argument("--own", type=int, default=330, help="of the methods with sensitivities")
    parser.add_argument("--spaces", default=",".join(SPACES))
    parser.add_argument("--folder", default="runs/search", help="of the studies and their figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
