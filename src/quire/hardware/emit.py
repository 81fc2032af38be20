"""`emit`: a quantized graph as a folder of SystemVerilog that stands alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor
from torch.fx import GraphModule

from quire.errors import HardwareError
from quire.hardware.design import Design
from quire.hardware.linear import MAX_ACCUMULATOR
from quire.hardware.lower import lanes_for, lower
from quire.hardware.render import render
from quire.hardware.schedule import Lanes
from quire.hardware.testbench import bench
from quire.hardware.unroll import LEVELS

OWNED = ("rtl", "mem", "tb", "fpga", "logs", "synth")
"""The folders of an emitted folder, and those of tools; emitting again removes what they hold."""


def emit(
    q: GraphModule,
    path: str | os.PathLike[str],
    lanes: Literal["auto", "unroll"] | Lanes = "auto",
    *,
    rate: float = 1e6,
    clock: float = 200e6,
    name: str = "top",
    rom: Literal["auto", "block", "logic"] = "auto",
    max_accumulator: int = MAX_ACCUMULATOR,
    levels: int = LEVELS,
    vectors: Tensor | tuple[Tensor, ...] | None = None,
) -> Design:
    """Write a quantized graph as a streaming accelerator, and return its Design.

    q: a graph from `quantize`, with a plan from `plan.for_hardware` or one as narrow.
    path: the folder; what an earlier `emit` wrote there is replaced.
    lanes: {path of a linear layer: (M_in, M_out)}, the products that it forms in a cycle; "auto"
        takes the fewest with which `rate` samples a second are met at a clock of `clock` Hz.
        "unroll", for all layers or one of them, makes the weights constants in logic, with a row
        each cycle. levels: adders in a row between two registers there.
    name: of the top module. rom: where weights go, "auto" by size.
    max_accumulator: bits of the widest exact sum that is allowed.
    vectors: samples for the bench in the folder, float (samples, *shape), one tensor for each
        input; it has random ones in any case.

    Raises HardwareError, before anything is written, with every node that has no hardware.
    """
    design = lower(
        q,
        lanes_for(q, lanes, rate, clock),
        name=name,
        rom=rom,
        max_accumulator=max_accumulator,
        levels=levels,
    )
    given = (vectors,) if isinstance(vectors, Tensor) else vectors
    folder = Path(path)
    write(folder, render(design, clock, bench(design, q, given)))
    return replace(design, folder=folder.resolve(), graph=q)


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """The files of a design, in place of those of an earlier one; nothing else is touched."""
    if folder.exists() and any(folder.iterdir()):
        for path in _written(folder):
            (folder / path).unlink(missing_ok=True)
        for owned in OWNED:
            shutil.rmtree(folder / owned, ignore_errors=True)
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _written(folder: Path) -> list[str]:
    """The files that an earlier `emit` wrote; HardwareError for a folder of something else."""
    try:
        return list(json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["hashes"])
    except (OSError, ValueError, KeyError):
        raise HardwareError(
            f"'{folder}' holds files that quire.emit did not write: name another"
        ) from None
