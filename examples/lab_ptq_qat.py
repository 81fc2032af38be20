"""Lab: rounding after training (PTQ) against training through the rounding (QAT).

Every operand of the digits ViT takes a fixed-point format of one width, whose fraction bits fit the
operand's data. The figure shows validation accuracy against that width, before and after training
for some epochs. Widths over 24 bits need float64.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer
from digits import task
from figure import Curve, curves, table

import quire
from quire.explore import Study

WIDTHS = (3, 4, 5, 6, 8, 12, 16, 24, 32)


def accuracies(study: Study) -> Curve:
    """Validation accuracy against width."""
    uniform = {trial.label.removeprefix("uniform "): trial.metrics for trial in study.trials}
    return WIDTHS, [uniform[f"fixed({width},fitted)"]["accuracy"] for width in WIDTHS]


def main(
    qat_epochs: int = 10, seed: int = 0, epochs: int = 80, out: Path = Path("runs/lab_ptq_qat.html")
) -> None:
    """Train, run each width with and without more training, print the accuracies, and draw them."""
    torch.set_num_threads(1)  # the tensors are too small to share
    torch.manual_seed(seed)
    with TemporaryDirectory() as folder:
        found = task(seed, epochs, Path(folder) / "fp64.safetensors", torch.float64)
        studies = {
            name: quire.search(
                found,
                [f"fixed({'|'.join(map(str, WIDTHS))},fitted)"],
                {"accuracy": "max"},
                trials=1 + len(WIDTHS),  # fp64, and each width at all sites
                qat_epochs=more,
                name=name,
                storage=f"{folder}/study.journal",
            )
            for name, more in (("PTQ", 0), (f"QAT, {qat_epochs} epochs", qat_epochs))
        }
    drawn = {name: accuracies(study) for name, study in studies.items()}
    table(
        {f"{width} bits": [y[k] for _, y in drawn.values()] for k, width in enumerate(WIDTHS)}
        | {"float64": [study.baseline.metrics["accuracy"] for study in studies.values()]},
        list(drawn),
        "validation accuracy",
    )
    across, up = "width of every operand (bits)", "validation accuracy (share)"
    curves(drawn, across, up, out, shape="linear", xaxis_type="log")


if __name__ == "__main__":
    typer.run(main)
