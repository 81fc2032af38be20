"""Measure the library's cells for the cost model: `python -m quire.hardware.calibrate`.

Each cell is synthesised alone for 7 series over a grid of its parameters: all points are instances
in one module, kept apart by the hierarchy, so that Yosys starts once or twice. The measurements and
the weights of `quire.hardware.curves` fitted to them go to `calibration.json` beside this file.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.optimize import nnls

from quire.hardware.curves import DATA, MODELS
from quire.hardware.netlist import Resources
from quire.hardware.sweeps import SWEEPS, Point
from quire.hardware.targets import TARGETS
from quire.hardware.toolchain import YOSYS, run_yosys

RTL = Path(__file__).parent / "rtl"
TARGET = "xc7"
SLACK = 10  # added to what errors are relative to, so that small cells do not count too much
KEPT = ("LUT", "FF", "DSP", "BRAM")


def main(cells: Sequence[str]) -> None:
    """Measure these cells (all by default), fit the curves and write both into the data file."""
    kept = json.loads(DATA.read_text())["cells"] if DATA.exists() else {}
    for group in groups(cells or list(SWEEPS)):
        points = {cell: SWEEPS[cell]() for cell in group}
        for cell, found in measure(points).items():
            kept[cell] = [
                [dict(point), list(astuple(used))[: len(KEPT)]]
                for point, used in zip(points[cell], found, strict=True)
            ]
        print(*group, flush=True)
    weights = {cell: fitted(cell, kept[cell]) for cell in sorted(kept)}
    DATA.write_text(_rendered(kept, weights))


def measure(points: Mapping[str, Sequence[Point]]) -> dict[str, list[Resources]]:
    """What each cell uses alone at each of its points, {parameter: value}.

    The value "random WIDTHxDEPTH" is a memory file of such words. No cell may contain another.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        sources = [_copied(folder, file, file.stem in points) for file in sorted(RTL.glob("*.sv"))]
        (folder / "bank.sv").write_text(_bank(folder, points))
        reads = "".join(f"read_verilog -sv -defer {name}\n" for name in [*sources, "bank.sv"])
        script = (
            f"{reads}{TARGETS[TARGET].script.format(top='bank')}"
            "tee -q -o stat.json stat -json\nselect bank\nwrite_json -selected bank.json\n"
        )
        run_yosys(script, folder, folder / "yosys.log")
        counts = json.loads((folder / "stat.json").read_text())["modules"]
        bank = json.loads((folder / "bank.json").read_text())["modules"]["bank"]["cells"]
        return {
            cell: [_used(counts, bank[f"{cell}_{i}"]["type"]) for i in range(len(of_cell))]
            for cell, of_cell in points.items()
        }


def fitted(cell: str, measured: Sequence[tuple[Point, Sequence[int]]]) -> dict[str, list[float]]:
    """Weights of the cell's terms, by least squares of the relative errors."""
    model = MODELS[cell]
    numbers = [
        {name: value for name, value in point.items() if isinstance(value, int)}
        for point, _ in measured
    ]
    curves = {"LUT": model.lut, "FF": model.ff}
    return {
        name: _least_squares([terms(p) for p in numbers], [used[i] for _, used in measured])
        for i, (name, terms) in enumerate(curves.items())
    }


def _least_squares(terms: Sequence[Sequence[float]], amounts: Sequence[int]) -> list[float]:
    if not terms[0]:
        return []
    target = np.array(amounts, dtype=float)
    scale = 1 / (target + SLACK)
    weights, _ = nnls(np.array(terms, dtype=float) * scale[:, None], target * scale)
    return [float(f"{w:.4g}") for w in weights]


def groups(cells: Sequence[str]) -> list[list[str]]:
    """Cells that are measured in one run: a cell and what it contains are in two."""
    inner = [cell for cell in cells if _is_contained(cell)]
    return [group for group in ([c for c in cells if c not in inner], inner) if group]


def _is_contained(cell: str) -> bool:
    """Whether another cell of the library has instances of this one."""
    others = (file for file in RTL.glob("*.sv") if file.stem != cell)
    return any(re.search(rf"\b{cell}\b", file.read_text()) for file in others)


def _copied(folder: Path, file: Path, apart: bool) -> str:
    """Copy a source; `apart`: its module is never merged into the one around it."""
    text = file.read_text()
    if apart:
        text = re.sub(r"^module\b", "(* keep_hierarchy *) module", text, flags=re.MULTILINE)
    (folder / file.name).write_text(text)
    return file.name


def _bank(folder: Path, points: Mapping[str, Sequence[Point]]) -> str:
    lines = [
        f"  (* keep *) {cell} #({_assignments(folder, f'{cell}_{i}', point)}) {cell}_{i} ();\n"
        for cell, of_cell in points.items()
        for i, point in enumerate(of_cell)
    ]
    return f"module bank;\n{''.join(lines)}endmodule\n"


def _assignments(folder: Path, name: str, point: Point) -> str:
    return ", ".join(f".{key}({_value(folder, name, value)})" for key, value in point.items())


def _value(folder: Path, name: str, value: int | str) -> str:
    """A parameter's value; "random WIDTHxDEPTH" makes a memory file of such words."""
    shape = re.fullmatch(r"random (\d+)x(\d+)", str(value))
    if shape is None:
        return str(value)
    width, depth = int(shape[1]), int(shape[2])
    words = random.Random(width * depth)
    lines = (f"{words.getrandbits(width):x}\n" for _ in range(depth))
    (folder / f"{name}.mem").write_text("".join(lines))
    return f'"{name}.mem"'


def _used(counts: Mapping[str, Mapping[str, Mapping[str, int]]], module: str) -> Resources:
    costs = TARGETS[TARGET].cells
    used = Resources()
    for kind, number in counts[module.removeprefix("\\")]["num_cells_by_type"].items():
        if not kind.startswith("$scope"):
            used += Resources(*(number * amount for amount in astuple(costs[kind])))
    return used


def _rendered(
    cells: Mapping[str, Sequence[object]], weights: Mapping[str, Mapping[str, list[float]]]
) -> str:
    """JSON with a line for each point and each cell's weights."""
    points = [
        f"  {json.dumps(cell)}: [\n"
        + ",\n".join(f"   {json.dumps(point)}" for point in measured)
        + "\n  ]"
        for cell, measured in sorted(cells.items())
    ]
    curves = [f"  {json.dumps(cell)}: {json.dumps(of_cell)}" for cell, of_cell in weights.items()]
    head = {"target": TARGET, "tools": {YOSYS.name: YOSYS.version}, "resources": KEPT}
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    lines.append(' "weights": {\n' + ",\n".join(curves) + "\n }")
    lines.append(' "cells": {\n' + ",\n".join(points) + "\n }")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    main(sys.argv[1:])
