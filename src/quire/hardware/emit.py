"""`emit`: a quantized graph as a folder of SystemVerilog that stands alone."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch.fx import GraphModule

from quire.errors import HardwareError
from quire.hardware.design import Design
from quire.hardware.linear import MAX_ACCUMULATOR
from quire.hardware.lower import lanes_for, lower
from quire.hardware.render import render
from quire.hardware.schedule import Lanes

OWNED = ("rtl", "mem", "tb", "manifest.json", "design.json", "logs", "synth")
"""What a folder of `emit` holds; emitting again replaces these and touches nothing else."""


def emit(
    q: GraphModule,
    path: str | os.PathLike[str],
    lanes: Literal["auto"] | Lanes = "auto",
    *,
    rate: float = 1e6,
    clock: float = 200e6,
    name: str = "top",
    rom: Literal["auto", "block", "logic"] = "auto",
    max_accumulator: int = MAX_ACCUMULATOR,
) -> Design:
    """Write a quantized graph as a streaming accelerator, and return its Design.

    q: a graph from `quantize`, with a plan from `plan.for_hardware` or one as narrow.
    path: the folder; what an earlier `emit` wrote there is replaced.
    lanes: {path of a linear layer: (M_in, M_out)}, the products that it forms in a cycle; "auto"
        takes the fewest with which `rate` samples a second are met at a clock of `clock` Hz.
    name: of the top module. rom: where weights go, "auto" by size.
    max_accumulator: bits of the widest exact sum that is allowed.

    Raises HardwareError, before anything is written, with every node that has no hardware.
    """
    design = lower(
        q,
        lanes_for(q, lanes, rate, clock),
        name=name,
        rom=rom,
        max_accumulator=max_accumulator,
    )
    folder = Path(path)
    write(design, folder)
    return replace(design, folder=folder.resolve(), graph=q)


def write(design: Design, folder: Path) -> None:
    """The files of a design, in place of those of an earlier one; nothing else is touched."""
    files = render(design)
    if folder.exists() and any(folder.iterdir()) and not (folder / "manifest.json").is_file():
        raise HardwareError(f"'{folder}' holds files that quire.emit did not write: name another")
    for owned in OWNED:
        old = folder / owned
        if old.is_dir():
            shutil.rmtree(old)
        elif old.exists():
            old.unlink()
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
