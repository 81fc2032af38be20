"""The digits ViT under uniform formats and searched plans: the mean of three seeds.

A seed is another split, another initialization, and another search. Losses are of the validation
split, which the search sees; accuracies of the test split, which it does not. `margins` holds, for
each uniform format, by how much the best plan of at most its size has the lower loss, the least of
the three seeds.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean

import torch
from record import record
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from candidates import candidates
from comparison import compare
from digits import load_splits, score, task

import quire

SEEDS, EPOCHS, TRIALS = (0, 1, 2), 80, 1400

Rows = dict[str, dict[str, float]]


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = [run(seed, Path(folder)) for seed in SEEDS]
    tables = [table for table, _ in runs]
    figures = {
        "mean": {
            label: {m: round(fmean(table[label][m] for table in tables), 4) for m in row}
            for label, row in tables[0].items()
        },
        "margins": {
            label: round(min(margin(table[label]) for table in tables), 4)
            for label in tables[0]
            if label != "fp32" and not label.startswith("mixed")
        },
        "seeds": {str(seed): table for seed, table in zip(SEEDS, tables, strict=True)},
        "seconds": {str(seed): spent for seed, (_, spent) in zip(SEEDS, runs, strict=True)},
        "trials": TRIALS,
    }
    record("digits", figures)


def run(seed: int, folder: Path) -> tuple[Rows, dict[str, float]]:
    """{label: metrics} of one seed, and the seconds of its parts."""
    started = time.perf_counter()
    found = task(seed, EPOCHS, folder / f"{seed}.safetensors")
    trained = time.perf_counter()
    graph = quire.capture(found.model, found.example_inputs)
    study = quire.search(
        found,
        candidates(graph),
        {"loss": "min", "bits": "min"},
        limits={"bits": 6.5},
        trials=TRIALS,
        storage=f"{folder}/{seed}.journal",
        seed=seed,
    )
    searched = time.perf_counter()
    test = load_splits(seed)[2]

    def accuracy(model: nn.Module) -> dict[str, float]:
        return {"accuracy": score(model, test)["accuracy"]}

    rows = {row["label"]: row["metrics"] for row in compare(study, graph, accuracy)}
    seconds = {"train": trained - started, "search": searched - trained, **study.timing}
    return rows, {part: round(spent, 1) for part, spent in seconds.items()}


def margin(row: dict[str, float]) -> float:
    """Zero where the uniform plan itself is the best of its size."""
    return row["loss"] - row["best loss at that size"]


if __name__ == "__main__":
    main()
