"""The cells that stages are built of, as functions from nets to nets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from quire.errors import HardwareError
from quire.hardware.elements import decoder
from quire.hardware.stage import Net, part
from quire.hardware.stream import Codes, Integers, odd_part
from quire.hardware.timing import Step


@dataclass(frozen=True)
class Decoded:
    """The operands of a net: `sig`, `shift` and `scale` expressions, widths, and their grid.

    value = sig * 2^(shift + scale + exponent) * odd. Widths of 0 have expressions of one 0 bit.
    """

    sig: str
    shift: str
    scale: str
    sig_bits: int
    shift_bits: int
    scale_bits: int
    exponent: int
    odd: int


def decode(net: Net) -> Decoded:
    """The decoder of a net's codes; integers are their own operands."""
    values, b = net.values, net.builder
    if isinstance(values, Integers):
        nothing = f"{net.lanes}'d0"
        return Decoded(net.data, nothing, "1'd0", values.bits, 0, 0, values.exponent, 1)
    cell = decoder(values.element)
    sig = b.wire("sig", net.lanes * cell.sig_bits)
    shift = b.wire("shift", net.lanes * max(1, cell.shift_bits))
    b.cell(
        cell.cell,
        {"LANES": net.lanes, **cell.parameters},
        {"code_i": net.elements, "sig_o": sig, "shift_o": shift},
    )
    grid = values.integers
    odd = 1 if values.dynamic_scale is not None else _odd(values)
    scale = net.scale if values.dynamic_scale is not None else "1'd0"
    return Decoded(
        sig,
        shift,
        scale,
        cell.sig_bits,
        cell.shift_bits,
        values.beat_scale_bits,
        grid.exponent,
        odd,
    )


def _odd(values: Codes) -> int:
    number = values.factor.numerator
    return number // (number & -number)


def to_integers(net: Net) -> Net:
    """Codes as exact integers on one grid; integers as they are."""
    values = net.values
    if isinstance(values, Integers):
        return rectified(net, values.bits) if net.rectified else net
    grid, operands, b = values.integers, _multiplied(net, decode(net)), net.builder
    data = b.wire("integers", net.lanes * grid.bits)
    b.cell(
        "quire_align",
        {
            "LANES": net.lanes,
            "SIG_W": operands.sig_bits,
            "SHIFT_W": max(1, operands.shift_bits),
            "SCALE_W": max(1, operands.scale_bits),
            "OUT_W": grid.bits,
        },
        {
            "sig_i": operands.sig,
            "shift_i": operands.shift,
            "scale_i": operands.scale,
            "x_o": data,
        },
    )
    return net.with_data(data, grid)


def _multiplied(net: Net, operands: Decoded) -> Decoded:
    """Operands with the odd part of a static scale in their significands."""
    odd_bits = operands.odd.bit_length() + 1
    if operands.odd == 1:
        return operands
    bits = operands.sig_bits + odd_bits - 1
    product = net.builder.wire("product", net.lanes * bits)
    widths = {"A_W": operands.sig_bits, "B_W": odd_bits, "OUT_W": bits}
    ports = {
        "a_i": operands.sig,
        "b_i": f"{{{net.lanes}{{{odd_bits}'d{operands.odd}}}}}",
        "x_o": product,
    }
    net.builder.cell("quire_mul", {"LANES": net.lanes, **widths}, ports)
    return replace(operands, sig=product, sig_bits=bits, odd=1)


def relu(net: Net) -> Net:
    """max(0, x): noted, and done by whoever reads the net."""
    return replace(to_integers(net), rectified=True)


def rectified(net: Net, bits: int) -> Net:
    """Lanes whose sign bit is set become 0: integers, and codes whose first bit is a sign."""
    data = net.builder.wire("relu", net.lanes * bits)
    ports = {"x_i": net.data, "x_o": data}
    net.builder.cell("quire_relu", {"LANES": net.lanes, "WIDTH": bits}, ports)
    return replace(net, data=data, rectified=False)


LONGEST_READY = 3
"""Stages in a row through which ready may pass before a register slice cuts it."""


def registered(net: Net, ready_depth: int) -> Net:
    """The net at the end of a stage: behind a register, or a slice that cuts ready as well.

    ready_depth: stages before, this one included, through which ready passes.
    """
    cell = "quire_register" if ready_depth < LONGEST_READY else "quire_slice"
    bits = net.stream("").beat_bits
    valid, ready, data = net.stepped("registered", bits)
    net.builder.steps.append(Step("delay", (1,)))
    net.builder.clocked(cell, {"WIDTH": bits}, ports(net, valid, ready, data))
    return replace(net, valid=valid, ready=ready, data=data)


def widened(net: Net, exponent: int) -> Net:
    """Integers on a finer grid: zeros at the right of each lane."""
    values = net.values
    assert isinstance(values, Integers)
    zeros = values.exponent - exponent
    if zeros <= 0:
        return net
    lowest = -(1 << (values.bits - 1))  # so that the width grows by the zeros alone
    finer = Integers(lowest << zeros, values.high << zeros, exponent)
    lanes = [
        f"{part(net.data, i * values.bits, values.bits)}, {zeros}'d0"
        for i in reversed(range(net.lanes))
    ]
    data = net.builder.wire("finer", net.lanes * finer.bits, "{" + ", ".join(lanes) + "}")
    return net.with_data(data, finer)


def lane_choices(values: Integers | Codes, row: int) -> list[int]:
    """The lanes that a stream of these values may have, for rows of `row` values."""
    size = values.block_size if isinstance(values, Codes) else None
    if size is None or size >= row:
        return list(range(1, row + 1))
    return [n for n in range(1, size + 1) if size % n == 0]


def converted(net: Net, lanes: int) -> Net:
    """The same rows with another number of lanes."""
    values = net.values
    if lanes == net.lanes:
        return net
    if values.beat_scale_bits:
        return _converted_blocks(net, lanes)
    return _convert(net, lanes, values.bits)


def _convert(net: Net, lanes: int, lane_bits: int) -> Net:
    valid, ready, data = net.stepped("convert", lanes * lane_bits)
    row = net.shape[-1]
    net.builder.steps.append(Step("convert", (net.lanes, lanes, row)))
    whole = lanes > net.lanes and lanes % net.lanes == 0
    net.builder.clocked(
        "quire_widen" if whole else "quire_convert",
        {"LANE_W": lane_bits, "IN_LANES": net.lanes, "OUT_LANES": lanes, "ROW": row},
        ports(net, valid, ready, data),
    )
    return replace(net, lanes=lanes, valid=valid, ready=ready, data=data)


def _converted_blocks(net: Net, lanes: int) -> Net:
    """Another number of lanes within a block: each value carries the scale of its block along."""
    values, b = net.values, net.builder
    legal = lane_choices(values, net.shape[-1])
    if lanes not in legal:
        raise HardwareError(
            f"a stream of {values} has a reader that wants {lanes} lanes; "
            f"legal are {', '.join(map(str, legal))}"
        )
    bits, scale_bits = values.bits, values.beat_scale_bits
    each = bits + scale_bits
    fields = [f"{net.scale}, {part(net.data, i * bits, bits)}" for i in reversed(range(net.lanes))]
    spread = b.wire("spread", net.lanes * each, "{" + ", ".join(fields) + "}")
    net = _convert(replace(net, data=spread), lanes, each)
    fields = [part(net.data, i * each, bits) for i in reversed(range(lanes))]
    scale = part(net.data, bits, scale_bits)
    if lanes > 1:
        copies = [part(net.data, i * each + bits, scale_bits) for i in range(1, lanes)]
        b.wire("unused_scales", (lanes - 1) * scale_bits, "{" + ", ".join(copies) + "}")
    beat = b.wire("beat", lanes * bits + scale_bits, "{" + ", ".join([scale, *fields]) + "}")
    return net.with_data(beat, values)


def fifo(net: Net, depth: int) -> Net:
    """The net behind a queue."""
    bits = net.stream("").beat_bits
    valid, ready, data = net.stepped("fifo", bits)
    net.builder.steps.append(Step("delay", (1,)))
    net.builder.clocked(
        "quire_fifo", {"WIDTH": bits, "DEPTH": depth}, ports(net, valid, ready, data)
    )
    return replace(net, valid=valid, ready=ready, data=data)


def fork(net: Net, count: int) -> list[Net]:
    """The net for several readers."""
    b = net.builder
    bits = net.stream("").beat_bits
    valid, ready, data = (
        b.wire("fork_valid", count),
        b.wire("fork_ready", count),
        b.wire("fork_data", bits),
    )
    b.clocked("quire_fork", {"N": count, "WIDTH": bits}, ports(net, valid, ready, data))
    return [
        replace(net, valid=f"{valid}[{i}]", ready=f"{ready}[{i}]", data=data) for i in range(count)
    ]


def join(nets: Sequence[Net]) -> list[Net]:
    """Nets that move together: the handshake of each is that of all."""
    b, count = nets[0].builder, len(nets)
    bits = [net.stream("").beat_bits for net in nets]
    valids = b.wire("join_valids", count, "{" + ", ".join(n.valid for n in reversed(nets)) + "}")
    readies = b.wire("join_readies", count)
    every = b.wire("join_in", sum(bits), "{" + ", ".join(n.data for n in reversed(nets)) + "}")
    valid, ready, data = nets[0].stepped("join", sum(bits))
    b.cell(
        "quire_join",
        {"N": count, "WIDTH": sum(bits)},
        {
            "in_valid_i": valids,
            "in_ready_o": readies,
            "in_data_i": every,
            "out_valid_o": valid,
            "out_ready_i": ready,
            "out_data_o": data,
        },
    )
    joined: list[Net] = []
    for i, net in enumerate(nets):
        b.assigns.append((net.ready, f"{readies}[{i}]"))
        own = b.wire(f"join_{i}", bits[i], part(data, sum(bits[:i]), bits[i]))
        joined.append(replace(net, valid=valid, ready=ready, data=own))
    return joined


def add(a: Net, b: Net) -> Net:
    """The exact sum of two joined nets."""
    a, b = to_integers(a), to_integers(b)
    assert isinstance(a.values, Integers)
    assert isinstance(b.values, Integers)
    exponent = min(a.values.exponent, b.values.exponent)
    shifts = [net.values.exponent - exponent for net in (a, b)]  # type: ignore[union-attr]
    low = sum(net.values.low << s for net, s in zip((a, b), shifts, strict=True))  # type: ignore
    high = sum(net.values.high << s for net, s in zip((a, b), shifts, strict=True))  # type: ignore
    return _binary(a, b, "quire_add", shifts, _as_wide(Integers(low, high, exponent), a, b))


def _as_wide(values: Integers, *nets: Net) -> Integers:
    """An interval in as many bits as each of some nets has; a sum may need fewer."""
    bits = max(values.bits, *(net.values.bits for net in nets))
    return values if bits == values.bits else replace(values, low=-(1 << (bits - 1)))


def constant(net: Net, value: Fraction) -> Net:
    """A binary fraction in every lane, beside a net."""
    odd, exponent = odd_part(abs(value)) if value else (0, 0)
    number = odd if value >= 0 else -odd
    values = Integers(number, number, exponent)
    word = f"{values.bits}'d{number & ((1 << values.bits) - 1)}"
    return replace(net, data=f"{{{net.lanes}{{{word}}}}}", values=values, rectified=False)


def is_shift(factor: Fraction) -> bool:
    """Whether a product with a binary fraction takes no logic."""
    return factor > 0 and odd_part(factor)[0] == 1


def scaled(net: Net, factor: Fraction) -> Net:
    """The exact product with a binary fraction."""
    net = to_integers(net)
    values = net.values
    assert isinstance(values, Integers)
    if is_shift(factor):
        shift = odd_part(factor)[1]
        return net.with_data(net.data, replace(values, exponent=values.exponent + shift))
    return _product(net, constant(net, factor))


def multiply(a: Net, b: Net) -> Net:
    """The exact product of two joined nets of codes."""
    if not (isinstance(a.values, Codes) and isinstance(b.values, Codes)):
        raise HardwareError(
            "an operand of a product has no format (fp32 is too wide to multiply exactly): give "
            "its sites .input and .other entries, as plan.for_hardware(graph, calibration) does"
        )
    return _product(to_integers(a), to_integers(b))


def _product(a: Net, b: Net) -> Net:
    x, y = a.values, b.values
    assert isinstance(x, Integers)
    assert isinstance(y, Integers)
    corners = [p * q for p in (x.low, x.high) for q in (y.low, y.high)]
    product = Integers(min(corners), max(corners), x.exponent + y.exponent)
    return _binary(a, b, "quire_mul", [0, 0], product)


def _binary(a: Net, b: Net, cell: str, shifts: Sequence[int], result: Integers) -> Net:
    data = a.builder.wire("result", a.lanes * result.bits)
    a.builder.cell(
        cell,
        {
            "LANES": a.lanes,
            "A_W": a.values.bits,
            "B_W": b.values.bits,
            "A_SHIFT": shifts[0],
            "B_SHIFT": shifts[1],
            "OUT_W": result.bits,
        },
        {"a_i": a.data, "b_i": b.data, "x_o": data},
    )
    return a.with_data(data, result)


def reshaped(net: Net, shape: tuple[int, ...], lanes: int) -> Net:
    """The same values in rows of another length; `lanes` of the result, where they are repacked."""
    row = net.shape[-1]
    if shape[-1] == row:
        return replace(net, shape=shape)
    if net.values.beat_scale_bits:
        net = to_integers(net)
    if row % net.lanes == 0 and shape[-1] % net.lanes == 0:
        return replace(net, shape=shape)
    valid, ready, data = net.stepped("repack", lanes * net.values.bits)
    net.builder.steps.append(Step("repack", (net.lanes, row, lanes, shape[-1])))
    net.builder.clocked(
        "quire_repack",
        {
            "LANE_W": net.values.bits,
            "IN_LANES": net.lanes,
            "OUT_LANES": lanes,
            "IN_ROW": row,
            "OUT_ROW": shape[-1],
        },
        ports(net, valid, ready, data),
    )
    return replace(net, shape=shape, lanes=lanes, valid=valid, ready=ready, data=data)


def concatenated(a: Net, b: Net, lanes: int) -> Net:
    """A row of one net, then a row of the other, as one row."""
    a, b = _alike(a, b)
    bits = a.values.bits
    valid, ready, data = a.stepped("concat", lanes * bits)
    rows = (a.shape[-1], b.shape[-1])
    a.builder.steps.append(Step("concat", (lanes, a.lanes, rows[0], b.lanes, rows[1])))
    a.builder.clocked(
        "quire_concat",
        {
            "LANE_W": bits,
            "A_LANES": a.lanes,
            "B_LANES": b.lanes,
            "OUT_LANES": lanes,
            "A_ROW": rows[0],
            "B_ROW": rows[1],
        },
        {
            "a_valid_i": a.valid,
            "a_ready_o": a.ready,
            "a_data_i": a.data,
            "b_valid_i": b.valid,
            "b_ready_o": b.ready,
            "b_data_i": b.data,
            "out_valid_o": valid,
            "out_ready_i": ready,
            "out_data_o": data,
        },
    )
    shape = (*a.shape[:-1], sum(rows))
    return replace(a, shape=shape, lanes=lanes, valid=valid, ready=ready, data=data)


def _alike(a: Net, b: Net) -> tuple[Net, Net]:
    """Two nets with one meaning of their bits: codes of one format, or integers on one grid."""
    if a.values == b.values and not a.values.beat_scale_bits:
        return a, b
    a, b = to_integers(a), to_integers(b)
    exponent = min(a.values.exponent, b.values.exponent)  # type: ignore[union-attr]
    a, b = widened(a, exponent), widened(b, exponent)
    low = min(a.values.low, b.values.low)  # type: ignore[union-attr]
    high = max(a.values.high, b.values.high)  # type: ignore[union-attr]
    both = Integers(low, high, exponent)
    return extended(a, both), extended(b, both)


def extended(net: Net, values: Integers) -> Net:
    """Integers in as many bits as `values`, which hold them, have."""
    bits = net.values.bits
    more = values.bits - bits
    if not more:
        return net.with_data(net.data, values)
    lanes = [
        f"{{{more}{{{net.data}[{i * bits + bits - 1}]}}}}, {part(net.data, i * bits, bits)}"
        for i in reversed(range(net.lanes))
    ]
    data = net.builder.wire("extended", net.lanes * values.bits, "{" + ", ".join(lanes) + "}")
    return net.with_data(data, values)


def ports(net: Net, valid: str, ready: str, data: str) -> dict[str, str]:
    """The ports of a cell with one stream in and one out."""
    return {
        "in_valid_i": net.valid,
        "in_ready_o": net.ready,
        "in_data_i": net.data,
        "out_valid_o": valid,
        "out_ready_i": ready,
        "out_data_o": data,
    }
