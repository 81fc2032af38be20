"""Casts as functions from nets to nets: exact integers rounded once to a format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from quire.errors import HardwareError
from quire.formats import Block, Fixed, Pow2, UFixed
from quire.formats.binary import Binary, Ternary
from quire.hardware import cells
from quire.hardware.elements import SIGN_FIRST, caster, packed
from quire.hardware.stage import Net, part
from quire.hardware.stream import Codes, Integers
from quire.hardware.timing import Step
from quire.hardware.wide import exactly
from quire.precision.exact import exact_cast


def scalar_cast(net: Net, codes: Codes, symmetric: bool = False) -> Net:
    """Integers rounded to a scalar format, combinationally.

    Where the first bit of a code is its sign, max(0, x) is cheaper after the rounding.
    """
    net = net if isinstance(codes.element, SIGN_FIRST) else cells.to_integers(net)
    values = net.values
    assert isinstance(values, Integers)
    net = cells.widened(net, min(values.exponent, codes.element.quantum_exponent))
    values = net.values
    assert isinstance(values, Integers)
    drop = codes.element.quantum_exponent - values.exponent
    cell = caster(codes.element, values.bits, drop, symmetric)
    data = net.builder.wire("code", net.lanes * codes.bits)
    ports = {"x_i": net.data, "code_o": data}
    net.builder.cell(cell.cell, {"LANES": net.lanes, **cell.parameters}, ports)
    net = net.with_data(data, codes)
    return cells.rectified(net, codes.bits) if net.rectified else net


def block_cast(net: Net, codes: Codes) -> Net:
    """Integers rounded to a block format with a power-of-two scale found in the data."""
    values, block = net.values, codes.format
    assert isinstance(values, Integers)
    assert isinstance(block, Block)
    scale = block.scale
    assert isinstance(scale, Pow2)
    beats = -(-net.shape[-1] // net.lanes)
    offset = values.exponent - codes.element.emax - scale.smallest_exponent
    largest = scale.emax - scale.smallest_exponent
    highest = min(max(values.bits - 1 + offset, 0), largest)
    exponent = values.exponent - scale.smallest_exponent - highest
    shifted = Integers(-(1 << values.bits), (1 << values.bits) - 1, exponent)
    valid, ready, data = net.stepped("block", scale.bits + net.lanes * shifted.bits)
    size = codes.block_size or 1
    block_beats = beats if size >= net.shape[-1] else size // net.lanes
    net.builder.steps.append(Step("block", (block_beats, beats)))
    net.builder.clocked(
        "quire_block_scale",
        {
            "LANES": net.lanes,
            "IN_W": values.bits,
            "BLOCK_BEATS": block_beats,
            "ROW_BEATS": beats,
            "LAST_LANES": net.shape[-1] - (beats - 1) * net.lanes,
            "CODE_W": scale.bits,
            "CODE_PLUS": max(offset, 0),
            "CODE_MINUS": max(-offset, 0),
            "CODE_MAX": largest,
            "CODE_HIGH": highest,
            "OUT_W": shifted.bits,
        },
        cells.ports(net, valid, ready, data),
    )
    width = net.lanes * shifted.bits
    raised = net.builder.wire("raised", width, part(data, 0, width))
    found = replace(net, valid=valid, ready=ready, data=raised, values=shifted)
    elements = scalar_cast(found, Codes(codes.element), symmetric=True)
    scale_code = part(data, net.lanes * shifted.bits, scale.bits)
    width = net.lanes * codes.bits + scale.bits
    beat = net.builder.wire("beat", width, f"{{{scale_code}, {elements.data}}}")
    return elements.with_data(beat, codes)


def threshold_cast(net: Net, codes: Codes) -> Net:
    """Integers rounded by comparison with thresholds: tables, and static real scales.

    The thresholds are found with the cast of `exact`, by bisection, so that its roundings (to
    fp32, of the quotient, of the element) need no circuit.
    """
    values = net.values
    assert isinstance(values, Integers)
    if isinstance(codes.format, Block) and not isinstance(codes.element, _ASCENDING):
        raise HardwareError(
            f"{codes} has a real scale and elements of {codes.element}; on an activation hardware "
            "has integer elements there (fixed, ufixed, binary, ternary)"
        )
    order = _ascending_codes(codes)
    thresholds = _thresholds(values, codes, order)
    # One bit more, for thresholds just beyond the range.
    wide = cells.extended(
        net, Integers(-(1 << values.bits), (1 << values.bits) - 1, values.exponent)
    )
    valid, ready, indices = net.stepped("index", net.lanes * codes.bits)
    net.builder.steps.append(Step("delay", (codes.bits,)))
    net.builder.clocked(
        "quire_cast_table",
        {
            "LANES": net.lanes,
            "IN_W": values.bits + 1,
            "BITS": codes.bits,
            "THRESHOLDS": packed(thresholds, values.bits + 1),
        },
        cells.ports(wide, valid, ready, indices),
    )
    net = replace(net, valid=valid, ready=ready, data=indices, values=codes)
    mask = order[0] if order != sorted(order) else 0
    if not mask:
        return net
    flips = sum(mask << (i * codes.bits) for i in range(net.lanes))
    width = net.lanes * codes.bits
    data = net.builder.wire("code", width, f"{indices} ^ {width}'h{flips:x}")
    return net.with_data(data, codes)


_ASCENDING = (Fixed, UFixed, Binary, Ternary)


def _ascending_codes(codes: Codes) -> list[int]:
    """All codes by ascending value."""
    every = torch.arange(2**codes.bits)
    values = codes.element.values_of(every).tolist()
    return sorted(range(2**codes.bits), key=lambda code: (values[code], code))


def _thresholds(values: Integers, codes: Codes, order: Sequence[int]) -> list[int]:
    """For each code but the last, the smallest integer whose code comes after it."""
    rank = torch.empty(len(order), dtype=torch.int64)
    rank[torch.tensor(order)] = torch.arange(len(order))

    def ranks(integers: Sequence[int]) -> list[int]:
        x = exactly(integers, values.exponent)
        emitted = exact_cast(x, str(codes.format), -1, codes.scale)
        assert emitted.origin is not None
        elements = emitted.origin.emitted / float(codes.factor)
        return rank[codes.element.codes_of(elements)].tolist()

    low = [values.low] * (len(order) - 1)
    high = [values.high + 1] * (len(order) - 1)
    while low != high:
        middle = [(a + b) // 2 for a, b in zip(low, high, strict=True)]
        found = ranks([min(m, values.high) for m in middle])
        for i, (m, at) in enumerate(zip(middle, found, strict=True)):
            if m > values.high or at > i:
                high[i] = m
            elif low[i] < high[i]:
                low[i] = m + 1
    return low
