"""The digits ViT under uniform formats, searched plans, and these trained: the mean of three seeds.

A seed is another split, another initialization, and another search. Losses are of the validation
split, which the search sees; accuracies of the test split, which it does not. `margins` holds, for
each uniform format, by how much the best plan of at most its size has the lower loss, the least of
the three seeds. Plans are trained through their casts towards the outputs of the fp32 model on
training images with noise; fp32 itself too, for comparison.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean

import torch
from record import record
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from budgets import search_budgets, train_best
from candidates import fine_candidates
from comparison import compare
from digits import load_splits, score, task
from training import distillation, fit

import quire

SEEDS, EPOCHS, TRIALS = (0, 1, 2), 80, 300
BOUNDS = (4.0, 3.5, 3.0)  # average bits
QAT_STEPS, QAT_RATE = 1000, 2e-3

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
            if not label.startswith(("fp32", "mixed"))
        },
        "seeds": {str(seed): table for seed, table in zip(SEEDS, tables, strict=True)},
        "seconds": {str(seed): spent for seed, (_, spent) in zip(SEEDS, runs, strict=True)},
        "trials of each search": TRIALS,
    }
    record("digits", figures)


def run(seed: int, folder: Path) -> tuple[Rows, dict[str, float]]:
    """{label: metrics} of one seed, and the seconds of its parts."""
    started = time.perf_counter()
    found = task(seed, EPOCHS, folder / f"{seed}.safetensors")
    trained = time.perf_counter()
    graph = quire.capture(found.model, found.example_inputs)
    images, _ = load_splits(seed)[0]
    formats = fine_candidates(graph)
    study = search_budgets(found, formats, "loss", BOUNDS, TRIALS, str(folder / f"{seed}"))
    searched = time.perf_counter()
    test = load_splits(seed)[2]

    def accuracy(model: nn.Module) -> dict[str, float]:
        return {"accuracy": score(model, test)["accuracy"]}

    def train(q: nn.Module) -> None:
        torch.manual_seed(seed)
        fit(q, lambda: distillation(q, found.model, noisy(images)), QAT_STEPS, QAT_RATE)

    figures = compare(study, graph, accuracy, BOUNDS, found.calibration)
    figures += train_best(study, found, BOUNDS, train, accuracy)
    rows = {row["label"]: row["metrics"] for row in figures}
    seconds = {"train": trained - started, "search": searched - trained}
    seconds["train again"] = time.perf_counter() - searched
    return rows, {part: round(spent, 1) for part, spent in seconds.items()}


def noisy(images: Tensor) -> Tensor:
    """64 images by chance, with noise as in training."""
    batch = images[torch.randint(len(images), (64,))]
    return batch + 0.5 * torch.randn(batch.shape)


def margin(row: dict[str, float]) -> float:
    """Zero where the uniform plan itself is the best of its size."""
    return row["loss"] - row["best loss at that size"]


if __name__ == "__main__":
    main()
