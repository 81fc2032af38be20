"""Searches at 4.0 bits on the digits ViT: KL on the calibration data against evaluations.

An evaluation is a forward pass over the calibration data (256 images); a backward pass counts as
two more. Every method is told the limit, and starts from the uniform plans that meet it. A seed is
another split, another initialization and another search. "program" measures isolated changes, of
which first-order scores leave out the dominated ones, solves the integer program, and moves from
there; "fisher" does so from the scores alone. `held out` is the KL of the best plan on the
validation split, which no search sees.

Each study is a journal in `--folder`: the same call goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
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
from quire.explore import Study, Task, search, sensitivity
from quire.explore.divergence import KL

BITS = 4.0
MARKS = (100, 200, 330, 1000)  # evaluations at which the best KL is noted
PEERS = ("tpe", "nsga2", "random", "guided")
OURS = {"program": "kl", "fisher": "fisher"}  # method: kind of its sensitivities
BFP = [f"bfp(2..6,scale_bits={bits},size={size})" for bits, size in ((8, 16), (4, 16), (8, 32))]
SPACES = ("bfp", "all")


def main() -> None:
    torch.set_num_threads(1)
    given = _arguments()
    folder = Path(given.folder)
    folder.mkdir(parents=True, exist_ok=True)
    methods = {**dict.fromkeys(PEERS, given.evaluations), **dict.fromkeys(OURS, given.own)}
    figures: dict[str, Any] = {"evaluations": methods, "bits": BITS}
    for space in given.spaces.split(","):
        rows: dict[str, list[dict[str, Any]]] = {}
        for seed in range(given.seeds):
            for method, evaluations in methods.items():
                row = part(folder, space, seed, method, evaluations)
                rows.setdefault(method, []).append(row)
        figures[space] = {"summary": summary(rows), "seeds": rows}
    record("search", figures)


def part(folder: Path, space: str, seed: int, method: str, evaluations: int) -> dict[str, Any]:
    """The figures of one study, read from their file if it was finished before."""
    path = folder / f"{space}-{seed}-{method}-{evaluations}.json"
    if path.exists():
        return json.loads(path.read_text())
    found, held_out = kl_task(seed, folder)
    graph = quire.capture(found.model, found.example_inputs)
    formats = BFP if space == "bfp" else candidates(graph)
    storage = f"{folder}/{space}-{seed}-{method}.journal"
    study = run(found, formats, storage, seed, method, evaluations)
    with torch.no_grad():
        tested = held_out.evaluate(quire.quantize(graph, study.best()))["kl"]
    row = {
        "best": curve(study),
        **({"program": program_value(study)} if method in OURS else {}),
        "preparation": study.preparation,
        "held out": round(tested, 6),
    }
    path.write_text(json.dumps(row, indent=1) + "\n")
    print(space, seed, method, row, flush=True)
    return row


def run(found: Task, formats: Any, storage: str, seed: int, method: str, evaluations: int) -> Study:
    options: dict[str, Any] = {"sampler": method}
    trials = evaluations
    if method in OURS:
        measured = sensitivity(found, formats, storage=storage, kind=OURS[method])
        options = {"sampler": "program", "sensitivities": measured}
        trials -= measured.evaluations
    limits = {"bits": BITS}
    return search(
        found, formats, {"kl": "min"}, limits=limits, trials=trials, storage=storage, seed=seed,
        **options,
    )  # fmt: skip


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


def curve(study: Study) -> dict[str, float]:
    """{evaluations: the best KL within the limit so far}, sensitivities and fp32 counted."""
    found: dict[str, float] = {}
    for mark in MARKS:
        seen = [t for t in study.feasible if study.preparation + t.number + 1 <= mark]
        if seen and mark <= study.preparation + len(study.trials):
            found[str(mark)] = round(min(t.metrics["kl"] for t in seen), 6)
    return found


def program_value(study: Study) -> dict[str, float]:
    """The plan of the integer program, which is the first after the uniform ones, and 50 moves."""
    first = next(trial.number for trial in study.trials if not trial.label)
    moved = [t.metrics["kl"] for t in study.feasible if t.number <= first + 50]
    return {
        "evaluations": study.preparation + 1,
        "kl": round(study.trials[first].metrics["kl"], 6),
        "kl after 50 moves": round(min(moved), 6),
    }


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means over the seeds with 95% intervals, and the seeds in which ours beat both peers."""
    last = [min(r["best"][max(r["best"], key=int)] for r in peers) for peers in
            zip(rows["tpe"], rows["nsga2"], strict=True)]  # fmt: skip
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
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=1000, help="of tpe, nsga2, random")
    parser.add_argument("--own", type=int, default=330, help="of the methods with sensitivities")
    parser.add_argument("--spaces", default=",".join(SPACES))
    parser.add_argument("--folder", default="runs/search", help="of the studies and their figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
