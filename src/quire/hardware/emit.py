"""`emit`: a quantized graph as a folder of SystemVerilog that stands alone."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor
from torch.fx import GraphModule

from quire.hardware.arguments import check
from quire.hardware.contents import check_target, write
from quire.hardware.design import Design
from quire.hardware.lanes import lanes_for
from quire.hardware.linear import MAX_ACCUMULATOR
from quire.hardware.lower import lower
from quire.hardware.render import render
from quire.hardware.schedule import Lanes
from quire.hardware.testbench import bench
from quire.hardware.unroll import LEVELS


def emit(
    q: GraphModule,
    path: str | os.PathLike[str],
    lanes: Literal["auto", "unroll"] | Lanes = "auto",
    *,
    rate: float | None = None,
    clock: float = 200e6,
    dsp: int | None = None,
    lut: int | None = None,
    bram: int | None = None,
    name: str = "top",
    rom: Literal["auto", "block", "logic"] = "auto",
    max_accumulator: int = MAX_ACCUMULATOR,
    levels: int = LEVELS,
    vectors: Tensor | tuple[Tensor, ...] | None = None,
) -> Design:
    """Write a quantized graph as a streaming accelerator, and return its Design.

    q: a graph from `quantize`, with a plan from `plan.for_hardware` or one as narrow.
    path: the folder; what an earlier `emit` wrote there is replaced, and nothing else is touched.
    lanes: {path of a linear layer: (M_in, M_out)}, the products that it forms in a cycle; "auto"
        takes the cheapest with which the design takes `rate` samples a second (a million) at
        a clock of `clock` Hz, or with a budget alone the fastest design within it.
        "unroll", for all layers or one of them, makes the weights constants in logic, with a row
        each cycle. levels: adders in a row between two registers there.
    dsp, lut, bram: a budget of DSP blocks, LUTs and memories of 18 Kbit on 7 series, against
        `Design.cost`; with a rate, or lanes, it is only checked.
    name: of the top module. rom: where weights go, "auto" by size.
    max_accumulator: bits of the widest exact sum that is allowed.
    vectors: samples for the bench in the folder, float (samples, *shape), one tensor for each
        input; it has random ones in any case.

    Raises HardwareError, before anything is written, for an argument that is not legal, a rate or
    a budget that cannot be met (with what can), and with every node that has no hardware.
    """
    check(q=q, path=path, rate=rate, clock=clock, dsp=dsp, lut=lut, bram=bram)
    check(name=name, rom=rom, max_accumulator=max_accumulator, levels=levels, vectors=vectors)
    folder = Path(path)
    check_target(folder)
    build = partial(lower, q, name=name, rom=rom, max_accumulator=max_accumulator, levels=levels)
    limits = {"DSP": dsp, "LUT": lut, "BRAM": bram}
    budget = {kind: most for kind, most in limits.items() if most is not None}
    _, design = lanes_for(q, lanes, rate, clock, budget, build)
    given = (vectors,) if isinstance(vectors, Tensor) else vectors
    write(folder, render(design, clock, bench(design, q, given)))
    return replace(design, folder=folder.resolve(), graph=q)
