"""Lab: per-layer integer widths 8, 16, 32 and fraction bits 2, 4, 8 of the digits ViT.

Every operand of a product takes one of the nine fixed-point formats. The figure shows the best
validation accuracy so far against trials, under three limits on the average bits. A product of
numbers of 32 bits needs more than the 24 bits of float32, so the model runs in float64.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer
from digits import task
from figure import best_so_far, curves, table

import quire

FORMATS = ["fixed(8|16|32,2|4|8)"]
LIMITS = (8, 12, 20)  # average bits


def main(
    trials: int = 150,
    seed: int = 0,
    epochs: int = 80,
    out: Path = Path("runs/lab_integer_widths.html"),
) -> None:
    """Train, search under each limit, print the best accuracies, and draw them."""
    torch.set_num_threads(1)  # the tensors are too small to share
    with TemporaryDirectory() as folder:
        found = task(seed, epochs, Path(folder) / "fp64.safetensors", torch.float64)
        studies = {
            bits: quire.search(
                found,
                FORMATS,
                {"accuracy": "max"},
                limits={"bits": bits},
                trials=trials,
                name=f"at most {bits} bits",
                storage=f"{folder}/study.journal",
                seed=seed,
            )
            for bits in LIMITS
        }
    drawn = {study.name: best_so_far(study, "accuracy") for study in studies.values()}
    rows = {"float64": [64.0, studies[LIMITS[0]].baseline.metrics["accuracy"]]}
    for study in studies.values():
        best = study.best_trial()
        rows[study.name] = [best.metrics["bits"], best.metrics["accuracy"]]
    table(rows, ["average bits", "accuracy"], f"best of {trials} trials, validation images")
    curves(drawn, "trials run", "best validation accuracy so far (share)", out)


if __name__ == "__main__":
    typer.run(main)
