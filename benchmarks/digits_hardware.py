"""From images to a circuit: the digits MLP 64-32-32-10, a searched plan, and its accelerator.

A plan of at most 4.5 bits is searched, fitted to hardware, emitted and simulated on every test
image, and the outputs are equal to the exact graph's in every bit. Images a second are those of
one core: of the simulation alone, and of `Design.simulate` without the comparison, in which the
images are encoded and the outputs decoded; processor seconds, so that others on the machine do not
count, and elapsed ones. The simulator is built before the clock starts.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from record import record
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from digits_mlp import FORMATS, splits, task

import quire
from quire.hardware import Design, Stalls
from quire.hardware.axi import encode
from quire.hardware.simulate import run_simulation

SEED, TRIALS, BITS, IMAGES = 0, 150, 4.5, 36_000


def main() -> None:
    """Train, search, emit, simulate, synthesise, and record the figures."""
    torch.set_num_threads(1)
    found = task(SEED)
    graph = quire.capture(found.model, found.example_inputs)
    with tempfile.TemporaryDirectory() as name:
        study = quire.search(
            found,
            FORMATS,
            {"loss": "min", "bits": "min"},
            limits={"bits": BITS},
            trials=TRIALS,
            storage=f"{name}/study.journal",
        )
        searched = study.best(max_bits=BITS)
        plan = searched.for_hardware(graph, found.calibration, quiet=True)
        q = quire.quantize(graph, plan)
        design = quire.emit(q, Path(name) / "digits")
        images, labels = splits(SEED)[2]
        figures = {
            "bits": quire.cost(graph, searched).bits,
            "plan": plan.to_json()["entries"],
            **accuracies(
                design, images, labels, fp32=found.model, searched=quire.quantize(graph, searched)
            ),
            **rates(design, images.repeat(IMAGES // len(images), 1)),
            "xc7": asdict(design.synthesize("xc7").total),
        }
    record("digits_hardware", figures)


def accuracies(
    design: Design, images: Tensor, labels: Tensor, **models: nn.Module
) -> dict[str, Any]:
    """Right answers of the simulation, of the exact graph and of the models; cycles."""

    def right(logits: Tensor) -> int:
        return int((logits.argmax(1) == labels).sum())

    assert design.graph is not None
    run = design.simulate(images)
    paused = design.simulate(images, stalls=Stalls(0.3, 0.3))
    exact = quire.exact(design.graph)(images)
    with torch.no_grad():
        others = {f"right, {name}": right(model(images)) for name, model in models.items()}
    return {
        "images": len(images),
        "right, simulated": right(run.output),
        "right, exact": right(exact),
        **others,
        "images classified as by exact": int((run.output.argmax(1) == exact.argmax(1)).sum()),
        "values equal": run.compared,
        "values equal under pauses": paused.compared,
        "latency": run.latency,
        "interval": run.interval,
        "predicted latency, interval": run.predicted,
    }


def rates(design: Design, images: Tensor) -> dict[str, float]:
    """Images a second of the simulation alone, and with encoding and decoding."""
    assert design.folder is not None
    folder = design.folder
    beats = {stream.name: encode(stream, images) for stream in design.inputs}
    runs: dict[str, Callable[[], object]] = {
        "simulation": lambda: run_simulation(folder, beats),
        "Design.simulate": lambda: design.simulate(images, check=False),
    }
    figures: dict[str, float] = {}
    for name, run in runs.items():
        start, elapsed = sum(os.times()[:4]), time.perf_counter()
        run()
        figures[f"{name}, images/s of processor time"] = len(images) / (sum(os.times()[:4]) - start)
        figures[f"{name}, images/s elapsed"] = len(images) / (time.perf_counter() - elapsed)
    return {name: round(value) for name, value in figures.items()}


if __name__ == "__main__":
    main()
