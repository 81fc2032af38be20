"""What a design uses, without synthesis: the sum of its cells, each by its curve.

DSP and BRAM follow the rules of the tools; LUT and FF are estimates (`quire.hardware.curves`). What
a stage makes constant is taken off where it matters: a scale that no multiplier has to apply. The
sums of an unrolled layer take `LUT_OF_SUM` for each of their bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from quire.hardware.curves import in_blocks, uses
from quire.hardware.design import Design, Instance, Stage
from quire.hardware.netlist import Resources
from quire.hardware.stream import Stream

_CONSTANT = re.compile(r"\d+'h([0-9a-f]+)$")
_PART = re.compile(r"(\w+)\[(\d+) \+: (\d+)\]$")


@dataclass(frozen=True)
class HardwareCost:
    """What a design takes on 7 series, estimated.

    interval, latency: cycles, exact where nothing pauses. LUT, FF: estimates. DSP, BRAM (of 18
    Kbit): counts. layers: the same resources of each stage, and of the cells at the ports.
    """

    interval: int
    latency: int
    LUT: int
    FF: int
    DSP: int
    BRAM: int
    layers: Mapping[str, Resources]


def cost(design: Design) -> HardwareCost:
    """Cycles and resources of a design, in all and by layer."""
    layers = estimate(design)
    used = total(layers.values())
    return HardwareCost(
        design.interval, design.latency, used.LUT, used.FF, used.DSP, used.BRAM, layers
    )


def estimate(design: Design) -> dict[str, Resources]:
    """What each layer of a design uses on 7 series: stages, and the cells at its ports."""
    ends = [(f"{s.name}_axis_in", "quire_axis_in", s) for s in design.inputs]
    ends += [(f"{s.name}_axis_out", "quire_axis_out", s) for s in design.outputs]
    return {
        **{
            stage.name: total([_sums(stage), *(_uses(stage, i) for i in stage.instances)])
            for stage in design.stages
        },
        **{name: uses(cell, _axis(stream)) for name, cell, stream in ends},
    }


LUT_OF_SUM = 0.85
"""A bit of a sum is a LUT of a carry chain; some are found to be copies or constants. Fitted to the
five designs of `python benchmarks/cost_model.py unrolled`."""


def _sums(stage: Stage) -> Resources:
    return Resources(LUT=round(LUT_OF_SUM * stage.sum_bits))


def total(parts: Iterable[Resources]) -> Resources:
    """The sum of resources."""
    return reduce(Resources.__add__, parts, Resources())


def _uses(stage: Stage, instance: Instance) -> Resources:
    found = CONTEXT.get(instance.cell, _nothing)(stage, instance)
    return uses(instance.cell, {**dict(instance.parameters), **found})


def _nothing(stage: Stage, instance: Instance) -> Mapping[str, int]:
    return {}


def _scales(stage: Stage, instance: Instance) -> Mapping[str, int]:
    """Whether the scales of a linear layer are constants, so that nothing multiplies or shifts."""
    parameters, ports = dict(instance.parameters), dict(instance.ports)
    sig, shift = (_constant(stage, ports[name]) for name in ("scale_sig_i", "scale_shift_i"))
    return {
        "IS_SCALE_UNIT": sig is not None and _is_one(sig, parameters),
        "IS_SHIFT_FIXED": shift is not None and parameters["X_SCALE_W"] == 1,
    }


def _weights(stage: Stage, instance: Instance) -> Mapping[str, int]:
    """Whether the words of a ROM go straight to multipliers, which have registers for them."""
    data = dict(instance.ports)["data_o"]
    decoded = {
        dict(i.ports)["sig_o"]
        for i in stage.instances
        if i.cell in WIRES and dict(i.ports)["code_i"] == data
    }
    fed = (
        dict(i.ports)["weight_sig_i"] in decoded and in_blocks(dict(i.parameters))
        for i in stage.instances
        if i.cell == "quire_linear"
    )
    return {"FEEDS_DSP": any(fed)}


def _thresholds(stage: Stage, instance: Instance) -> Mapping[str, int]:
    """After max(0, x) a table has no use for its thresholds below 0."""
    p = {name: int(value) for name, value in instance.parameters if name != "THRESHOLDS"}
    widths = [dict(i.parameters)["WIDTH"] for i in stage.instances if i.cell == "quire_relu"]
    return {"BITS": max(1, p["BITS"] - 1)} if p["IN_W"] - 1 in widths else {}


WIRES = ("quire_decode_fixed", "quire_decode_ufixed", "quire_decode_binary")
"""Decoders that are no logic."""

CONTEXT: Mapping[str, Callable[[Stage, Instance], Mapping[str, int]]] = {
    "quire_cast_table": _thresholds,
    "quire_linear": _scales,
    "quire_rom": _weights,
}
"""What the rest of a stage says of a cell, as parameters that only curves know."""


def _is_one(sigs: int, parameters: Mapping[str, int | bool | str]) -> bool:
    """Whether the odd part of every scale is 1."""
    width, outs = int(parameters["SCALE_SIG_W"]), int(parameters["M_OUT"])
    return sigs == sum(1 << (width * i) for i in range(outs))


def _constant(stage: Stage, expression: str) -> int | None:
    """The value of a part of a wire that never changes; None where it does."""
    part = _PART.match(expression)
    if part is None:
        return None
    driver = next((w.value for w in stage.wires if w.name == part[1]), "")
    constant = _CONSTANT.match(driver)
    mask = (1 << int(part[3])) - 1
    return None if constant is None else (int(constant[1], 16) >> int(part[2])) & mask


def _axis(stream: Stream) -> dict[str, int]:
    bits = stream.beat_bits
    return {"TDATA_W": -(-bits // 8) * 8, "WIDTH": bits, "BEATS": stream.beats}
