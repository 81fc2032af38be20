"""Lab: every family of number formats on the digits ViT, one search and one curve each.

Each search may mix the formats of its family as it likes, at most 4.5 bits on average; the figure
shows the best validation loss so far against trials.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer
from digits import task
from figure import best_so_far, curves, table

import quire

BITS = 4.5  # at most, on average
FAMILIES = {
    "integer (fixed point)": ["fixed(2..8,fitted)"],
    "minifloat": ["minifloat(e=2,m=0..4,bias=fitted)", "minifloat(e=3,m=0..3,bias=fitted)"],
    "minifloat, denormed": ["dmf(e=2,m=1..4,bias=fitted)", "dmf(e=3,m=1..3,bias=fitted)"],
    "logarithmic": ["log(3..8,bias=fitted)"],
    "block floating point": ["bfp(2..8,scale_bits=8,size=16)"],
    "MXInt": ["mxint2", "mxint3", "mxint4", "mxint5", "mxint6", "mxint8"],
    "block minifloat": [
        "bm(e=2,m=0..4,scale_bits=8,size=16)",
        "bm(e=3,m=0..3,scale_bits=8,size=16)",
    ],
    "block logarithmic": ["bl(3..8,scale_bits=8,size=16)"],
    "grouped integer": ["block(fixed(2..8,0),size=16,scale=bf16)"],
    "binary and ternary": [f"block({e},size=16,scale=bf16)" for e in ("binary", "ternary")],
}


def main(
    trials: int = 100, seed: int = 0, epochs: int = 80, out: Path = Path("runs/lab_families.html")
) -> None:
    """Train, search in each family, print the best losses, and draw them."""
    torch.set_num_threads(1)  # the tensors are too small to share
    with TemporaryDirectory() as folder:
        found = task(seed, epochs, Path(folder) / "fp32.safetensors")
        studies = [
            quire.search(
                found,
                formats,
                {"loss": "min"},
                limits={"bits": BITS},
                trials=trials,
                name=family,
                storage=f"{folder}/study.journal",
                seed=seed,
            )
            for family, formats in FAMILIES.items()
        ]
    metrics = {study.name: study.best_trial().metrics for study in studies}
    rows = {"fp32": studies[0].baseline.metrics} | metrics
    columns = ("bits", "loss", "accuracy")
    shown = {name: [row[column] for column in columns] for name, row in rows.items()}
    table(shown, columns, f"best of {trials} trials by validation loss, at most {BITS} bits")
    drawn = {study.name: best_so_far(study, "loss") for study in studies}
    curves(drawn, "trials run", "best validation loss so far (nats)", out, yaxis_type="log")


if __name__ == "__main__":
    typer.run(main)
