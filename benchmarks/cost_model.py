"""The cost model against synthesis: whole designs, estimated and then synthesised for 7 series.

`TUNING` are the designs that were looked at while the curves were made; `HELD_OUT` were not, and
the figures and limits are of those. Weights are random. Designs stay in `runs/cost_model`, and one
whose files are the same is not synthesised again.

    python benchmarks/cost_model.py            # the designs held out
    python benchmarks/cost_model.py tuning     # those that are not
    python benchmarks/cost_model.py unrolled   # layers of adders, for which no curve was fitted
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

import torch
from record import record
from torch import Tensor, nn
from torch.fx import GraphModule

import quire
from quire.hardware import Design
from quire.hardware.schedule import Lanes
from quire.precision import calibrate, fit_fixed

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "cost_model"
PICTURE = ROOT / "docs" / "figures" / "cost-model.svg"
RESOURCES = ("LUT", "FF", "DSP", "BRAM")

Row = dict[str, tuple[float, float]]
Planner = Callable[[GraphModule, Tensor], quire.Plan]


@dataclass(frozen=True)
class Case:
    """A network, its plan, and the lanes of its linear layers."""

    model: Callable[[], nn.Module]
    plan: Planner
    lanes: Lanes | Literal["unroll"]
    inputs: int


def mlp(*sizes: int, act: Callable[[], nn.Module] = nn.ReLU) -> Callable[[], nn.Module]:
    """Linear layers with a function between each two."""

    def build() -> nn.Module:
        layers = [(nn.Linear(*pair), act()) for pair in itertools.pairwise(sizes)]
        return nn.Sequential(*itertools.chain(*layers))[:-1]

    return build


class Residual(nn.Module):
    """x + the second layer of the function of the first, and a last layer."""

    def __init__(self, width: int, hidden: int, outs: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.last, self.act = nn.Linear(width, outs), act()

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, width)."""
        return self.last(x + self.down(self.act(self.up(x))))


def fixed(bits: int) -> Planner:
    """Fixed point of so many bits everywhere, with fitted fraction bits."""

    def plan(graph: GraphModule, x: Tensor) -> quire.Plan:
        fitted = fit_fixed(graph, (x,), bits)
        return fitted | fit_fixed(graph, (x,), {"output.0": bits}, ["output.0"])

    return plan


def uniform(format: str) -> Planner:
    """One format for the operands of every layer."""
    return lambda graph, x: quire.Plan.uniform(graph, format)


def scaled(bits: int) -> Planner:
    """Integers with a real scale for each row of a weight, and a static one for an activation."""
    format = f'block(fixed({bits},0),size="all",scale=bf16)'
    return lambda graph, x: calibrate(graph, (x,), quire.Plan.uniform(graph, format))


def log4(graph: GraphModule, x: Tensor) -> quire.Plan:
    """Powers of two: 2^-8 to 2^-2 for weights, 2^-5 to 2 for activations."""
    sites = quire.sites(graph).items()
    weights = {name: "log(4,bias=9)" for name, site in sites if site.role == "weight"}
    return quire.Plan.uniform(graph, "log(4,bias=6)") | weights


TUNING: Mapping[str, Case] = {
    "fixed6": Case(mlp(16, 32, 16, 5), fixed(6), {"0": (4, 1), "2": (4, 2), "4": (2, 1)}, 16),
    "mxint8": Case(mlp(32, 48, 10), uniform("mxint8"), {"0": (8, 2), "2": (8, 1)}, 32),
    "bm_e2m1": Case(mlp(32, 64, 10), uniform("bm(e=2,m=1)"), {"0": (4, 2), "2": (4, 1)}, 32),
    "int8": Case(mlp(16, 32, 10), scaled(8), {"0": (4, 1), "2": (4, 1)}, 16),
    "log4": Case(mlp(16, 32, 10), log4, {"0": (4, 1), "2": (8, 2)}, 16),
    "gelu8": Case(
        lambda: Residual(24, 48, 6, nn.GELU),
        fixed(8),
        {"up": (4, 2), "down": (4, 2), "last": (4, 1)},
        24,
    ),
    "mxint4": Case(
        mlp(64, 32, 32, 8), uniform("mxint4"), {"0": (16, 1), "2": (4, 2), "4": (8, 1)}, 64
    ),
    "jet_fixed8": Case(
        mlp(16, 64, 32, 32, 5),
        fixed(8),
        {"0": (8, 1), "2": (4, 4), "4": (8, 1), "6": (1, 1)},
        16,
    ),
}

HELD_OUT: Mapping[str, Case] = {
    "jet_fixed7": Case(
        mlp(16, 64, 32, 32, 5),
        fixed(7),
        {"0": (4, 2), "2": (8, 2), "4": (4, 2), "6": (4, 1)},
        16,
    ),
    "wide_fixed5": Case(
        mlp(40, 60, 30, 10), fixed(5), {"0": (8, 2), "2": (10, 2), "4": (6, 1)}, 40
    ),
    "residual_fixed10": Case(
        lambda: Residual(32, 40, 4, nn.Tanh),
        fixed(10),
        {"up": (8, 1), "down": (5, 2), "last": (4, 1)},
        32,
    ),
    "mxint8_3": Case(
        mlp(48, 64, 32, 6), uniform("mxint8"), {"0": (8, 2), "2": (16, 1), "4": (4, 1)}, 48
    ),
    "mxint6": Case(mlp(32, 64, 12), uniform("mxint6"), {"0": (4, 4), "2": (16, 1)}, 32),
    "bfp4": Case(mlp(64, 96, 16), uniform("bfp(4)"), {"0": (8, 4), "2": (8, 1)}, 64),
    "log4_3": Case(mlp(24, 48, 24, 4), log4, {"0": (8, 2), "2": (4, 4), "4": (4, 1)}, 24),
    "int6": Case(mlp(20, 40, 8), scaled(6), {"0": (5, 2), "2": (8, 1)}, 20),
}


def sparse(*sizes: int) -> Callable[[], nn.Module]:
    """Linear layers whose weights are zero by half, with a ReLU between each two."""

    def build() -> nn.Module:
        model = mlp(*sizes)()
        for layer in model.children():
            if isinstance(layer, nn.Linear):
                layer.weight.data *= torch.rand_like(layer.weight) < 0.5
        return model

    return build


UNROLLED: Mapping[str, Case] = {
    "fixed4": Case(mlp(16, 32, 16, 5), fixed(4), "unroll", 16),
    "fixed6": Case(mlp(16, 24, 8), fixed(6), "unroll", 16),
    "sparse_fixed8": Case(sparse(16, 24, 10), fixed(8), "unroll", 16),
    "mixed": Case(mlp(16, 24, 16, 5), fixed(5), {"0": "unroll", "2": (8, 2), "4": "unroll"}, 16),
    "log4": Case(mlp(16, 32, 10), log4, "unroll", 16),
}
GROUPS = {"held-out": HELD_OUT, "tuning": TUNING, "unrolled": UNROLLED}


def main() -> None:
    """Measure the group that the command line names."""
    torch.set_num_threads(1)
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("group", nargs="?", choices=GROUPS, default="held-out")
    group = options.parse_args().group
    rows: dict[str, Row] = {}
    for name, case in GROUPS[group].items():
        rows[name] = compared(name, case)
        print(name, rows[name], file=sys.stderr, flush=True)
    record(f"cost_model_{group}".replace("-", "_"), {"mean error": errors(rows), "designs": rows})
    if group == "held-out":
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(picture(rows))


def compared(name: str, case: Case) -> Row:
    """{resource: (estimated, synthesised)} of a case, and how long each took in seconds."""
    design = emitted(name, case)
    start = time.perf_counter()
    cost = design.cost()
    estimated = time.perf_counter()
    used = design.synthesize("xc7").total
    pairs = {what: (getattr(cost, what), getattr(used, what)) for what in RESOURCES}
    return {**pairs, "seconds": (estimated - start, time.perf_counter() - estimated)}


def errors(rows: Mapping[str, Row]) -> dict[str, float]:
    """Mean relative error of each resource; of DSP and BRAM the number of designs that differ."""
    found = {what: [rows[name][what] for name in rows] for what in RESOURCES}
    means = {what: round(mean(abs(a - b) / b for a, b in found[what]), 4) for what in ("LUT", "FF")}
    return means | {f"wrong {w}": sum(a != b for a, b in found[w]) for w in ("DSP", "BRAM")}


def picture(rows: Mapping[str, Row]) -> str:
    """An SVG: what was synthesised across, what was estimated up, on logarithmic axes."""
    shown = {"LUT": "#1f77b4", "FF": "#d62728"}
    amounts = [n for row in rows.values() for what in shown for n in row[what]]
    low, high = math.log10(min(amounts) * 0.8), math.log10(max(amounts) * 1.25)

    def at(amount: float) -> float:
        return 360 * (math.log10(amount) - low) / (high - low)

    ends = 10**low, 10**high
    lines = [
        line(at(x0), at(x0 * k), at(x1), at(x1 * k), dash)
        for k, dash in ((1, ""), (0.9, "4 4"), (1 / 0.9, "4 4"))
        for x0, x1 in [(ends[0] / min(k, 1), ends[1] / max(k, 1))]
    ]
    ticks = [n for n in (200, 500, 1000, 2000, 5000, 10000) if ends[0] <= n <= ends[1]]
    labels = [text(60 + at(n), 418, str(n), "middle") for n in ticks]
    labels += [text(54, 404 - at(n), str(n), "end") for n in ticks]
    labels += [text(240, 438, "synthesised (Yosys, xc7)", "middle"), text(60, 28, "estimated")]
    dots = [
        f'<circle cx="{60 + at(used):.1f}" cy="{400 - at(guess):.1f}" r="4" fill="{colour}">'
        f"<title>{name}: {what} {guess} for {used}</title></circle>"
        for name, row in rows.items()
        for what, colour in shown.items()
        for guess, used in [row[what]]
    ]
    key = [
        f'<circle cx="80" cy="{56 + 18 * i}" r="4" fill="{colour}"/>{text(90, 60 + 18 * i, what)}'
        for i, (what, colour) in enumerate(shown.items())
    ]
    frame = '<rect x="60" y="40" width="360" height="360" fill="none" stroke="#888"/>'
    return "\n".join([HEAD, frame, *lines, *labels, *dots, *key, "</svg>", ""])


HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 450" width="440" height="450" '
    'font-family="sans-serif" font-size="12"><rect width="440" height="450" fill="#fff"/>'
)


def line(x0: float, y0: float, x1: float, y1: float, dash: str) -> str:
    """A line inside the frame; `dash` as SVG has it."""
    ends = f'x1="{60 + x0:.1f}" y1="{400 - y0:.1f}" x2="{60 + x1:.1f}" y2="{400 - y1:.1f}"'
    return f'<line {ends} stroke="#888" stroke-dasharray="{dash}"/>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """A label."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def emitted(name: str, case: Case) -> Design:
    """The design of a case, in its folder."""
    torch.manual_seed(0)
    model = case.model().eval()
    x = torch.randn(256, case.inputs)
    graph = quire.capture(model, (x[:8],))
    plan = case.plan(graph, x).for_hardware(graph, (x,), quiet=True)
    return with_synthesis(quire.quantize(graph, plan), FOLDER / name, case.lanes)


def with_synthesis(q: GraphModule, folder: Path, lanes: Lanes | Literal["unroll"]) -> Design:
    """Emit, and keep what was synthesised before: it says itself of which files it is."""
    kept = folder.with_name(f"{folder.name}.synth")
    if (folder / "synth").exists():
        (folder / "synth").rename(kept)
    design = quire.emit(q, folder, lanes)
    if kept.exists():
        kept.rename(folder / "synth")
    return design


if __name__ == "__main__":
    main()
