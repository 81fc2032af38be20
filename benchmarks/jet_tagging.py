"""The jet-tagging MLP 16-64-32-32-5 as hardware: one folded design, and the same MLP by format.

Weights and inputs are random, so that the figures are of the circuits: resources and speed hardly
depend on what a network of this shape has learned. Every design is simulated against the exact
graph, and a figure is only recorded of one that equals it in every bit. Designs stay in
`runs/jet_tagging`, and one that comes out as it was is not synthesised again.

    python benchmarks/jet_tagging.py folded    # fixed(8,f): resources, cycles, frequency
    python benchmarks/jet_tagging.py formats   # each format at the same lanes
    python benchmarks/jet_tagging.py formats --targets xc7   # quicker: no frequency, no gates
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import record
from torch import Tensor, nn
from torch.fx import GraphModule

import quire
from quire.errors import HardwareError
from quire.hardware import Design, Stalls
from quire.precision import calibrate, fit_fixed

SIZES = (16, 64, 32, 32, 5)
LANES = {"0": (8, 1), "2": (4, 4), "4": (8, 1), "6": (1, 1)}
LIMITS = {"DSP": 33, "LUT": 1000, "BRAM": 9, "latency": 350, "MHz": 130}
FOLDER = Path(__file__).parents[1] / "runs" / "jet_tagging"
INT8 = 'block(fixed(8,0),size="all",scale=bf16)'
SAMPLES = 1024

Planner = Callable[[GraphModule, Tensor], quire.Plan]


def main() -> None:
    """Measure the parts that the command line names."""
    torch.set_num_threads(1)
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("part", nargs="?", choices=PARTS, help="both by default")
    options.add_argument("--targets", nargs="+", choices=TARGETS, default=[*TARGETS])
    given = options.parse_args()
    for run in PARTS.values() if given.part is None else [PARTS[given.part]]:
        run(given.targets)


def folded(targets: list[str]) -> None:
    """The fixed-point design against the limits that it has to keep."""
    design, model, x = emitted("fixed8", fixed)
    figures = measured(design, model, x, targets)
    paused = design.simulate(x, stalls=Stalls(0.3, 0.3))
    limits = {name: [figures[name], limit] for name, limit in LIMITS.items() if name in figures}
    record(
        "jet_tagging_folded",
        figures
        | {"values equal under pauses": paused.compared, "figure and limit": limits}
        | {"LUT, FF, DSP, BRAM of each layer": layers(design)},
    )


def formats(targets: list[str]) -> None:
    """The MLP in each format."""
    rows: dict[str, Any] = {}
    for name, plan in FORMATS.items():
        try:
            rows[name] = measured(*emitted(name, plan), targets)
        except HardwareError as error:
            rows[name] = {"refused": str(error)}
        print(name, rows[name], file=sys.stderr, flush=True)
    record("jet_tagging_formats", rows)


def fixed(graph: GraphModule, x: Tensor) -> quire.Plan:
    """Eight bits everywhere, the output included, with fitted fraction bits."""
    plan = fit_fixed(graph, (x,), 8)
    return plan | fit_fixed(graph, (x,), {"output.0": 8}, ["output.0"])


def uniform(format: str) -> Planner:
    """One format for the operands of every layer."""
    return lambda graph, x: quire.Plan.uniform(graph, format)


def int8(graph: GraphModule, x: Tensor) -> quire.Plan:
    """Integers; a bf16 scale for each row of a weight, a calibrated one for an activation."""
    return calibrate(graph, (x,), quire.Plan.uniform(graph, INT8))


def log4(graph: GraphModule, x: Tensor) -> quire.Plan:
    """Powers of two: 2^-8 to 2^-2 for weights, 2^-5 to 2 for activations."""
    weights = {
        name: "log(4,bias=9)" for name, site in quire.sites(graph).items() if site.role == "weight"
    }
    return quire.Plan.uniform(graph, "log(4,bias=6)") | weights


FORMATS: dict[str, Planner] = {
    "fixed8": fixed,
    "mxint8": uniform("mxint8"),
    "mxint4": uniform("mxint4"),
    "bfp4": uniform("bfp(4)"),
    "bm_e2m1": uniform("bm(e=2,m=1)"),
    "log4": log4,
    "int8": int8,
}


def emitted(name: str, planner: Planner) -> tuple[Design, nn.Module, Tensor]:
    """The design of a plan, its model, and the samples of the simulation."""
    torch.manual_seed(0)
    linears = [nn.Linear(*pair) for pair in itertools.pairwise(SIZES)]
    layers = [layer for linear in linears for layer in (linear, nn.ReLU())]
    model = nn.Sequential(*layers[:-1]).eval()
    seen, x = torch.randn(256, SIZES[0]), torch.randn(SAMPLES, SIZES[0])
    graph = quire.capture(model, (seen[:8],))
    plan = planner(graph, seen).for_hardware(graph, (seen,), quiet=True)
    return as_it_was(quire.quantize(graph, plan), FOLDER / name), model, x


def as_it_was(q: GraphModule, folder: Path) -> Design:
    """Emit, but keep the folder and its synthesis where the files would be the same."""
    new = quire.emit(q, folder.with_name(f"{folder.name}.new"), LANES)
    manifest = folder / "manifest.json"
    assert new.folder is not None
    if manifest.exists() and manifest.read_bytes() == (new.folder / manifest.name).read_bytes():
        return Design.load(folder, q)
    return quire.emit(q, folder, LANES)


def measured(design: Design, model: nn.Module, x: Tensor, targets: list[str]) -> dict[str, Any]:
    """Cycles and error of a simulation, and what synthesis for each target tells."""
    run = design.simulate(x)
    with torch.no_grad():
        wanted = model(x)
    error = (run.output - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    figures = {
        "latency": run.latency,
        "interval": run.interval,
        "predicted latency, interval": run.predicted,
        "relative RMS error": round(error.item(), 5),
        "values equal": run.compared,
        "cycles": run.cycles,
    }
    for target in targets:
        figures |= TARGETS[target](design)
    return figures


def xc7(design: Design) -> dict[str, Any]:
    """What it takes of a 7-series device."""
    used = design.synthesize("xc7").total
    return {"LUT": used.LUT, "FF": used.FF, "DSP": used.DSP, "BRAM": used.BRAM}


def ecp5(design: Design) -> dict[str, Any]:
    """How fast it is as placed on an ECP5."""
    placed = design.synthesize("ecp5", place=True)
    path = placed.critical_path
    assert placed.frequency_mhz is not None
    return {
        "MHz": round(placed.frequency_mhz, 1),
        "critical path": path and f"{path.source_cell} to {path.sink_cell}",
        "ECP5 LUT, FF, DSP, BRAM": [getattr(placed.total, n) for n in ("LUT", "FF", "DSP", "BRAM")],
    }


def gates(design: Design) -> dict[str, Any]:
    """NAND2 equivalents of the whole design, its ROMs and registers as gates too."""
    total = design.synthesize("gates").total
    return {"gates": round(total.gates), "of which flip-flops": 4 * total.FF}


def layers(design: Design) -> dict[str, list[int]]:
    """What each layer takes of a 7-series device."""
    used = design.synthesize("xc7").layers
    return {name: [r.LUT, r.FF, r.DSP, r.BRAM] for name, r in used.items()}


TARGETS = {"xc7": xc7, "ecp5": ecp5, "gates": gates}
PARTS = {"folded": folded, "formats": formats}


if __name__ == "__main__":
    main()
