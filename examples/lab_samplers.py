"""Lab: how fast TPE, NSGA-II, random search and the integer program find the front.

A search of the digits ViT for low validation loss and few bits. Its front after some evaluations is
one number: the mean, over sizes from 2.5 to 6.5 bits on average, of the best loss among plans of at
most that size. Sensitivities, which the integer program starts from, are counted as evaluations.
"""

from math import log
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer
from digits import task
from figure import Curve, curves, table

import quire
from quire.explore import Study

FORMATS = ["bfp(2|3|4|6,scale_bits=8,size=16)"]
SIZES = [2.5 + 0.1 * step for step in range(41)]  # average bits
CHANCE = log(10)  # nats, the loss where no plan is that small
SAMPLERS = {"TPE": "tpe", "NSGA-II": "nsga2", "random": "random", "integer program": "program"}


def front(study: Study) -> Curve:
    """The figure of the front against evaluations."""
    best, counts, means = [CHANCE] * len(SIZES), list[float](), list[float]()
    for trial in study.feasible:
        bits, loss = trial.metrics["bits"], trial.metrics["loss"]
        pairs = zip(best, SIZES, strict=True)
        best = [min(known, loss) if bits <= size else known for known, size in pairs]
        counts.append(study.preparation + trial.number)
        means.append(sum(best) / len(best))
    return counts, means


def main(
    evaluations: int = 400,
    seed: int = 0,
    epochs: int = 80,
    out: Path = Path("runs/lab_samplers.html"),
) -> None:
    """Train, search by each sampler, print the figures of the fronts, and draw them."""
    torch.set_num_threads(1)  # the tensors are too small to share
    drawn: dict[str, Curve] = {}
    with TemporaryDirectory() as folder:
        found = task(seed, epochs, Path(folder) / "fp32.safetensors")
        storage = f"{folder}/study.journal"
        measured = quire.sensitivity(found, FORMATS, storage=storage)
        for name, sampler in SAMPLERS.items():
            spent = measured.evaluations if sampler == "program" else 0
            study = quire.search(
                found,
                FORMATS,
                {"loss": "min", "bits": "min"},
                limits={"bits": SIZES[-1]},
                trials=max(1, evaluations - spent) + 1,  # and fp32
                name=name,
                storage=storage,
                sampler=sampler,
                sensitivities=measured,
                seed=seed,
            )
            drawn[name] = front(study)
    marks = [evaluations * part // 4 for part in (1, 2, 3, 4)]
    rows = {
        name: [
            min((m for c, m in zip(*curve, strict=True) if c <= mark), default=CHANCE)
            for mark in marks
        ]
        for name, curve in drawn.items()
    }
    table(rows, [f"{mark} evaluations" for mark in marks], "mean best loss over sizes (nats)")
    curves(drawn, "evaluations", "mean best validation loss over sizes (nats)", out)


if __name__ == "__main__":
    typer.run(main)
