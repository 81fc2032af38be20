"""Formats and circuit searched together: accuracy against LUT + 55 DSP at a fixed rate.

An MLP 64-64-32-32-10 on digits (the hidden layers of the jet-tagging network). Each plan is costed
as the circuit of 7 series that takes a million samples a second at 200 MHz, with the lanes that
need the least. The search sees the validation split. Three points of its front are emitted,
simulated on the test images, every output compared with the exact graph's, and synthesised: the
best, the smallest that is within a point of fp32, and the middle of those between.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from record import record

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from digits_mlp import splits, task

import quire
from quire.explore import Study, Task, Trial
from quire.hardware import DesignCosts

SEED, RATE, CLOCK = 0, 1e6, 200e6
HIDDEN = (64, 32, 32)
FORMATS = [
    "fixed(3..8,fitted)",
    "mxint4",
    "mxint6",
    "mxfp4",
    "bfp(3|4|5,scale_bits=4,size=16)",
    "bl(4,scale_bits=4,size=16)",
]
RESOURCES = ("LUT", "FF", "DSP", "BRAM")
MARKS = ("area", "LUT", "DSP", "bits", "loss", "accuracy")


def main() -> None:
    torch.set_num_threads(1)
    given = _arguments()
    folder = Path(given.folder)
    folder.mkdir(parents=True, exist_ok=True)
    found = task(SEED, hidden=HIDDEN)
    costs = DesignCosts(found.calibration, rate=RATE, clock=CLOCK)
    started = time.perf_counter()
    study = quire.search(
        found,
        FORMATS,
        {"loss": "min", "area": "min"},
        name="joint",
        trials=given.trials,
        storage=f"{folder}/study.journal",
        sampler="program",
        costs=costs,
    )
    searched = time.perf_counter() - started
    front = study.pareto()
    chosen = points(study)
    record(
        "joint_search",
        {
            "evaluations": study.preparation + len(study.trials),
            "seconds": round(searched, 1),
            "fp32": dict(study.baseline.metrics),
            "front": [marks(trial) for trial in front],
            "uniform": {t.label: marks(t) for t in study.feasible if t.label},
            "designs": [design(found, costs, t, folder / str(t.number)) for t in chosen],
        },
    )


def points(study: Study) -> list[Trial]:
    """The best of the front, the middle, and the smallest within a point of fp32."""
    near = study.baseline.metrics["accuracy"] - 0.01
    good = [trial for trial in study.pareto() if trial.metrics["accuracy"] >= near]
    return [good[0], good[len(good) // 2], good[-1]]


def design(found: Task, costs: DesignCosts, trial: Trial, folder: Path) -> dict[str, Any]:
    """A point of the front as a circuit: what was predicted, simulated and synthesised."""
    graph = quire.capture(found.model, found.example_inputs)
    q = quire.quantize(graph, trial.plan.for_hardware(graph, costs.calibration, quiet=True))
    hardware = quire.emit(q, folder, rate=costs.rate, clock=costs.clock)
    images, labels = splits(SEED)[2]
    run = hardware.simulate(images)  # an error if any value differs from the exact graph's
    with torch.no_grad():
        fp32 = found.model(images)
    used, predicted = asdict(hardware.synthesize("xc7").total), trial.metrics
    row = {
        "trial": marks(trial),
        "formats": sorted(set(trial.formats.values())),
        "right on the test split": int((run.output.argmax(1) == labels).sum()),
        "right, fp32": int((fp32.argmax(1) == labels).sum()),
        "images": len(images),
        "values equal to the exact graph's": run.compared,
        "interval, latency": [run.interval, run.latency],
        "interval, latency predicted": [int(predicted["interval"]), int(predicted["latency"])],
        "predicted": {name: int(predicted[name]) for name in RESOURCES},
        "synthesised": {name: used[name] for name in RESOURCES},
        "off": {
            name: round(predicted[name] / used[name] - 1, 4) for name in RESOURCES if used[name]
        },
    }
    print(row, file=sys.stderr, flush=True)
    return row


def marks(trial: Trial) -> dict[str, float]:
    return {name: round(float(trial.metrics[name]), 5) for name in MARKS}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--folder", default="runs/joint_search", help="of the study and designs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
