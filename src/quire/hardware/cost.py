"""What a design uses, without synthesis: the sum of its cells, each by its curve.

DSP and BRAM follow the rules of the tools; LUT and FF are estimates (`quire.hardware.curves`). Of
DSP and BRAM, what synthesis finds constant or unused is taken off (`quire.hardware.constants`). The
sums of an unrolled layer take `LUT_OF_SUM` for each of their bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

from quire.hardware.constants import (
    Removed,
    constant,
    constant_weights,
    fields,
    is_shiftless,
    removed,
    signed_fields,
    varying_bits,
)
from quire.hardware.curves import constant_product, in_blocks, products, tree_bits, uses
from quire.hardware.design import Design, Instance, Stage
from quire.hardware.netlist import Resources
from quire.hardware.stream import Stream


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
    gone = removed(design)
    return {
        **{
            s.name: total([_sums(s), *(_uses(s, i, gone[s.name]) for i in s.instances)])
            for s in design.stages
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


def _uses(stage: Stage, instance: Instance, gone: Removed) -> Resources:
    found = CONTEXT.get(instance.cell, _nothing)(stage, instance, gone)
    return uses(instance.cell, {**dict(instance.parameters), **found})


def _nothing(stage: Stage, instance: Instance, gone: Removed) -> Mapping[str, int]:
    return {}


def _linear(stage: Stage, instance: Instance, gone: Removed) -> Mapping[str, int]:
    """The multipliers of a linear layer: what is constant needs fewer or none."""
    p = {name: int(value) for name, value in instance.parameters}
    ports = dict(instance.ports)
    outs = gone.left(p["M_OUT"])
    sig, shift = (constant(stage, ports[name]) for name in ("scale_sig_i", "scale_shift_i"))
    is_fixed = shift is not None and p["X_SCALE_W"] == 1
    shifts = fields(shift or 0, p["SCALE_SHIFT_W"], p["M_OUT"]) if is_fixed else [0] * p["M_OUT"]
    # A sum keeps no bits above the accumulator.
    kept = [p["ACC_W"] - (shifts[o] if p["HAS_SCALE"] else 0) for o in range(p["M_OUT"])]
    scales = None if sig is None else signed_fields(sig, p["SCALE_SIG_W"], p["M_OUT"])
    made = _products(stage, instance, p, gone, outs, kept)
    found: dict[str, int] = {
        "IS_SCALE_UNIT": scales is not None and set(scales) == {1},
        "IS_SHIFT_FIXED": is_fixed,
        "PRODUCT_DSP": made,
        "IS_GONE": not outs,
    }
    if p["HAS_SCALE"]:
        bits, width = tree_bits(p), p["SCALE_SIG_W"]
        found["SCALE_DSP"] = sum(
            products(bits, width, kept[o])
            if scales is None
            else constant_product(bits, scales[o], kept[o])
            for o in outs
        )
    return found


def _products(
    stage: Stage,
    instance: Instance,
    p: Mapping[str, int],
    gone: Removed,
    outs: Sequence[int],
    kept: Sequence[int],
) -> int:
    """DSP blocks of the products of weights; kept: bits of each sum that are used."""
    weights = constant_weights(stage, instance)
    aligned = [min(p["ALIGNED_W"], bits) for bits in kept]
    if weights is None:
        return p["M_IN"] * sum(products(p["X_SIG_W"], p["W_SIG_W"], aligned[o]) for o in outs)
    is_wired = is_shiftless(stage, instance)
    # A product of one input lane and one constant is made once, however many sums take it.
    made: dict[tuple[int, int], int] = {}
    for o in outs:
        for i in range(p["M_IN"]):
            sig, shift = weights[o * p["M_IN"] + i]
            bits = aligned[o] - (shift if is_wired else 0)
            made[i, sig] = max(bits, made.get((i, sig), 0))
    return sum(
        constant_product(p["X_SIG_W"], sig, bits)
        for (i, sig), bits in made.items()
        if i not in gone.inputs
    )


def _weights(stage: Stage, instance: Instance, gone: Removed) -> Mapping[str, int]:
    """Whether the words of a ROM go straight to multipliers, which have registers for them; and the
    bits of a word that are not constant."""
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
    varying = varying_bits(stage, dict(instance.parameters))
    return {"FEEDS_DSP": any(fed), "WIDTH": 0 if gone.everything else varying.bit_count()}


def _table(stage: Stage, instance: Instance, gone: Removed) -> Mapping[str, int]:
    """The lanes of a table that are there, and the bits of its codes that are not constant."""
    lanes = len(gone.left(int(dict(instance.parameters)["LANES"])))
    varying = varying_bits(stage, dict(instance.parameters))
    return {"LANES": lanes, "OUT_BITS": varying.bit_count()}


def _product(stage: Stage, instance: Instance, gone: Removed) -> Mapping[str, int]:
    """The lanes of a product that are there."""
    return {"LANES": len(gone.left(int(dict(instance.parameters)["LANES"])))}


def _thresholds(stage: Stage, instance: Instance, gone: Removed) -> Mapping[str, int]:
    """After max(0, x) a table has no use for its thresholds below 0."""
    p = {name: int(value) for name, value in instance.parameters if name != "THRESHOLDS"}
    widths = [dict(i.parameters)["WIDTH"] for i in stage.instances if i.cell == "quire_relu"]
    return {"SEARCHED": max(1, p["BITS"] - 1)} if p["IN_W"] - 1 in widths else {}


WIRES = ("quire_decode_fixed", "quire_decode_ufixed", "quire_decode_binary")
"""Decoders that are no logic."""

CONTEXT: Mapping[str, Callable[[Stage, Instance, Removed], Mapping[str, int]]] = {
    "quire_cast_table": _thresholds,
    "quire_linear": _linear,
    "quire_lookup": _table,
    "quire_mul": _product,
    "quire_rom": _weights,
}
"""What the rest of a design says of a cell, as parameters that only curves know."""


def _axis(stream: Stream) -> dict[str, int]:
    bits = stream.beat_bits
    return {"TDATA_W": -(-bits // 8) * 8, "WIDTH": bits, "BEATS": stream.beats}
