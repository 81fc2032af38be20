"""The digits MLP as an accelerator: searched, emitted, simulated, synthesised and drawn."""

from pathlib import Path

from digits_mlp import FORMATS, splits, task

import quire
from quire.hardware.summary import summary
from quire.report import design_page

BITS = 4.5  # at most, on average


def accelerator(out: Path, seed: int, epochs: int, trials: int = 60) -> None:
    """Write a design into `out`/hardware and its page into `out`, and print what it is and does."""
    found = task(seed, epochs)
    graph = quire.capture(found.model, found.example_inputs)
    study = quire.search(
        found,
        FORMATS,
        {"loss": "min", "bits": "min"},
        limits={"bits": BITS},
        name="digits MLP",
        trials=trials,
        storage=f"{out}/accelerator.journal",
    )
    plan = study.best(max_bits=BITS).for_hardware(graph, found.calibration)
    design = quire.emit(quire.quantize(graph, plan), out / "hardware")
    print(design)
    images, labels = splits(seed)[2]
    run = design.simulate(images)  # an error if any value differs from the exact graph's
    print(run)
    right = int((run.output.argmax(1) == labels).sum())
    print(f"{right} of {len(images)} test images right, as the circuit was simulated")
    used = design.synthesize("xc7")
    print(f"On a 7-series FPGA: {used.total}")
    design_page(summary(design, run, used), out / "hardware.html")
