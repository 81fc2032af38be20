"""The linear stage: a matrix in ROMs, a row of operands against it, exact sums out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quire.errors import HardwareError
from quire.formats import Block, Encoded, Format
from quire.hardware.cells import Decoded, decode
from quire.hardware.elements import decoder, interval
from quire.hardware.stage import Net, part
from quire.hardware.stream import Codes, Integers, check_products, odd_part, with_scale
from quire.hardware.timing import Step

MAX_ACCUMULATOR = 128
"""Bits of the widest accumulator, unless the user allows more."""

Integer = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Weight:
    """A matrix (N, K) in a format: codes, and a scale for each of its blocks.

    codes: (N, K) integers. values: (N, K) integers of Python, in units of 2^exponent, without
    scales. scales: (N, blocks) fractions. block: columns that share a scale.
    """

    format: Format
    codes: npt.NDArray[np.int64]
    values: Integer
    exponent: int
    scales: Integer
    block: int

    @staticmethod
    def of(tensor: Tensor, format: Format, encoded: Encoded) -> Weight:
        """A weight of shape (N, K), from its encoding along the last axis."""
        element = Codes(format).element
        rows, columns = tensor.shape
        exponent = element.quantum_exponent
        numbers = element.values_of(encoded.codes.long()).double()
        _check_finite(tensor, numbers, format)
        values = _integers(numbers, exponent)
        codes = encoded.codes.long().numpy()
        if not isinstance(format, Block):
            ones = np.full((rows, 1), Fraction(1), dtype=object)
            return Weight(format, codes, values, exponent, ones, columns)
        if format.zero_point:
            raise HardwareError(f"{format} has zero points, which hardware weights do not")
        assert encoded.scales is not None
        found = format.scale.values_of(encoded.scales.long()).double().reshape(-1)
        if encoded.tensor_scale is not None:
            raise HardwareError(
                f"{format} has a second, fp32 scale for the tensor: take one real scale, such as "
                f"{with_scale(format, 'bf16')}"
            )
        _check_finite(tensor, found, format)
        blocks = encoded.scales.shape[-1] if encoded.scales.ndim > 1 else 1
        per_row = found.reshape(-1, blocks) if found.numel() > 1 else found.reshape(1, 1)
        scales = _fractions(per_row.expand(rows, blocks))
        size = format.size if isinstance(format.size, int) else columns
        shared = torch.arange(columns) // size
        check_products(format, numbers * per_row.expand(rows, blocks)[:, shared])
        return Weight(format, codes, values, exponent, scales, min(size, columns))

    @property
    def counts(self) -> npt.NDArray[np.bool_]:
        """(N, blocks): whether a block adds anything, so that its scale matters."""
        starts = range(0, self.values.shape[1], self.block)[: self.scales.shape[1]]
        return np.stack([(self.values[:, i : i + self.block] != 0).any(1) for i in starts], 1)


def _check_finite(tensor: Tensor, decoded: Tensor, format: Format) -> None:
    """HardwareError unless what the codes of a tensor mean is finite."""
    if not bool(decoded.isfinite().all()):
        strange = (~tensor.isfinite()).nonzero().tolist()
        where = f"{float(tensor[tuple(strange[0])])} at {tuple(strange[0])}" if strange else "Inf"
        raise HardwareError(
            f"its weight in {format} holds {where}, which hardware does not decode: replace it, as "
            "torch.nan_to_num does, or take a format without Inf"
        )


def _integers(numbers: Tensor, exponent: int) -> Integer:
    """Exact multiples of 2^exponent as integers; a format has few values, so each is made once."""
    few, places = numbers.unique(return_inverse=True)
    unit = Fraction(2) ** exponent
    made = np.array([int(Fraction(v) / unit) for v in few.tolist()], dtype=object)
    return made[places.numpy()]


def _fractions(numbers: Tensor) -> Integer:
    flat = [Fraction(v) for v in numbers.flatten().tolist()]
    return np.array(flat, dtype=object).reshape(numbers.shape)


@dataclass(frozen=True)
class _Grid:
    """The grid of the sums: their exponent, and each scale as an odd integer and a shift to it."""

    exponent: int
    signs: Integer
    shifts: npt.NDArray[np.int64]

    @property
    def sign_bits(self) -> int:
        """Bits of the two's complement of an odd part."""
        return 1 + max(1, *(int(s).bit_length() for s in self.signs.flatten()))

    @property
    def shift_bits(self) -> int:
        """Bits of a shift."""
        return max(1, int(self.shifts.max()).bit_length())

    @property
    def is_plain(self) -> bool:
        """Whether no sum has to be multiplied or shifted."""
        return bool((self.signs == 1).all() and (self.shifts == 0).all())


def _grid(weight: Weight, x: Decoded, bias: Sequence[Fraction]) -> _Grid:
    """The coarsest grid that holds every product and the bias.

    A block of zeros takes a scale that others have, whatever its own: so it widens nothing, and
    where those of all other blocks are alike none has to be applied.
    """
    scales, counts = weight.scales.flatten(), weight.counts.flatten()
    used = [odd_part(s) for s, counted in zip(scales, counts, strict=True) if counted and s]
    odd, lowest = min(used, key=lambda pair: pair[1], default=(1, 0))
    ends = [_lsb(b) for b in bias if b]
    products = weight.exponent + x.exponent + lowest if used else min(ends, default=0)
    finest = min([products, *ends])
    pairs = [
        (odd, lowest) if not counted else odd_part(s) if s else (0, lowest)
        for s, counted in zip(scales, counts, strict=True)
    ]
    signs = np.array([sign * x.odd for sign, _ in pairs], dtype=object)
    shifts = np.array([e - lowest + products - finest for _, e in pairs], dtype=np.int64)
    return _Grid(finest, signs.reshape(weight.scales.shape), shifts.reshape(weight.scales.shape))


def _lsb(value: Fraction) -> int:
    return odd_part(abs(value))[1]


def _range(weight: Weight, x: Integers, grid: _Grid, bias: list[int], name: str) -> Integers:
    """The interval of every partial sum, on the grid."""
    columns = weight.values.shape[1]
    repeats = np.minimum(np.arange(columns) // weight.block, weight.scales.shape[1] - 1)
    factors = grid.signs * np.array(
        [1 << int(s) for s in grid.shifts.flatten()], dtype=object
    ).reshape(grid.shifts.shape)
    scaled = weight.values * factors[:, repeats]
    positive, negative = np.where(scaled > 0, scaled, 0), np.where(scaled < 0, scaled, 0)
    offset = np.array(bias, dtype=object)
    high = (positive * x.high + negative * x.low).sum(1) + np.maximum(offset, 0)
    low = (positive * x.low + negative * x.high).sum(1) + np.minimum(offset, 0)
    return Integers(min(int(min(low)), 0), max(int(max(high)), 0), grid.exponent)


def linear(
    net: Net,
    weight: Weight,
    bias: Sequence[Fraction],
    m_out: int,
    input_major: bool,
    rom: str = "auto",
    max_accumulator: int = MAX_ACCUMULATOR,
) -> Net:
    """x W^T + bias for each row of a net, m_out sums at a time.

    The net's lanes are M_in. input_major: which of the two schedules. rom: "block", "logic" or
    "auto" (by size). Raises HardwareError where the accumulator would be too wide.
    """
    b = net.builder
    x = decode(net)
    values = net.values
    assert isinstance(values, Codes)
    grid = _grid(weight, x, bias)
    biases = [int(v / Fraction(2) ** grid.exponent) for v in bias]
    x_range = values.integers
    element_range = Integers(x_range.low // x.odd, x_range.high // x.odd, x_range.exponent)
    total = _range(weight, element_range, grid, biases, b.name)
    if total.bits > max_accumulator:
        raise HardwareError(
            f"{b.name}: an exact sum of its products needs {total.bits} bits, and "
            f"{max_accumulator} are allowed (max_accumulator). The widest operand is the "
            f"{_widest(values, weight, grid, biases)}"
        )
    geometry = _Geometry.of(net, weight, m_out, input_major)
    b.interval = prod(net.shape[:-1]) * geometry.steps
    b.detail = (
        f"{geometry.n} x {geometry.k}, lanes {net.lanes} x {m_out}, accumulator {total.bits} bits"
    )
    return _cell(net, x, weight, grid, biases, total, geometry, rom)


def _widest(x: Codes, weight: Weight, grid: _Grid, biases: Sequence[int]) -> str:
    """The operand with the most bits, and what makes it narrower."""
    element = Codes(Codes(weight.format).element).integers.bits
    reach = int(grid.shifts.max() - grid.shifts.min())
    zeros = min((_trailing_zeros(b) for b in biases if b), default=0)
    operands = {
        f"input, {x}; plan.for_hardware(graph, data) bounds the scales of activations, and a "
        "format with fewer exponents is narrower": x.integers.bits,
        f"weight, {weight.format}{_why_wide(weight.format, reach)}": element + reach,
        f"bias, which has bits down to 2^{grid.exponent + zeros}; a fixed-point format is "
        "narrower, as plan.for_hardware(graph, data) gives it": max(map(abs, biases)).bit_length()
        - zeros,
    }
    return max(operands, key=lambda operand: operands[operand])


def _why_wide(format: Format, reach: int) -> str:
    if not format.is_block:
        return "; a format with fewer exponents is narrower"
    return (
        f", whose scales span {reach + 1} powers of two; a format with fewer exponents, or a scale "
        "that rounds the smallest blocks to zero, such as pow2(4), is narrower"
    )


@dataclass(frozen=True)
class _Geometry:
    """How a matrix is cut into steps."""

    n: int
    k: int
    m_in: int
    m_out: int
    beats: int
    groups: int
    block_beats: int
    input_major: bool

    @staticmethod
    def of(net: Net, weight: Weight, m_out: int, input_major: bool) -> _Geometry:
        n, k = weight.codes.shape
        beats, groups = -(-k // net.lanes), -(-n // m_out)
        block_beats = max(1, weight.block // net.lanes) if weight.block < k else beats
        alike = beats == 1 or groups == 1
        return _Geometry(n, k, net.lanes, m_out, beats, groups, block_beats, input_major or alike)

    @property
    def parameters(self) -> dict[str, int | bool]:
        """Those of the cell."""
        return {
            "K_BEATS": self.beats,
            "K_LAST": self.k - (self.beats - 1) * self.m_in,
            "GROUPS": self.groups,
            "M_IN": self.m_in,
            "M_OUT": self.m_out,
            "INPUT_MAJOR": self.input_major,
            "BLOCK_BEATS": self.block_beats,
        }

    @property
    def steps(self) -> int:
        return self.beats * self.groups

    @property
    def order(self) -> list[tuple[int, int]]:
        """(group, beat) of each step."""
        if self.input_major:
            return [(g, k) for k in range(self.beats) for g in range(self.groups)]
        return [(g, k) for g in range(self.groups) for k in range(self.beats)]

    @property
    def scale_order(self) -> list[tuple[int, int]]:
        """(group, block of weights) in the order in which scales are read."""
        blocks = -(-self.beats // self.block_beats)
        if self.input_major:
            return [(g, k) for k in range(blocks) for g in range(self.groups)]
        return [(g, k) for g in range(self.groups) for k in range(blocks)]


def _fields(values: Sequence[int], bits: int) -> int:
    """Integers side by side in one word, the first in the low bits."""
    return sum((int(v) & ((1 << bits) - 1)) << (i * bits) for i, v in enumerate(values))


def _cell(
    net: Net,
    x: Decoded,
    weight: Weight,
    grid: _Grid,
    biases: list[int],
    total: Integers,
    g: _Geometry,
    rom: str,
) -> Net:
    """The cell that multiplies and sums, and the memories that it reads."""
    b = net.builder
    w = decoder(Codes(weight.format).element)
    has_shift = bool(x.shift_bits or w.shift_bits)
    has_scale = bool(x.scale_bits) or not grid.is_plain
    latency = 0 if g.steps == 1 else 2
    product_bits = x.sig_bits + w.sig_bits
    aligned = max(_product_bits(net, weight), product_bits) if has_shift else product_bits

    enable = b.wire("rom_en", 1)
    weight_ports = _weights(net, weight, g, enable, rom)
    scale_ports = _scales(net, grid, g, enable, rom)
    bias, group = _bias(net, biases, total.bits, g, enable, rom)
    if not b.memories:
        b.wire("unused_rom_en", 1, enable)

    valid, ready, data = net.stepped("sum", g.m_out * total.bits)
    tree = ((g.m_in - 1).bit_length() + 1) // 2
    kind = "input-major" if g.input_major else "output-major"
    depth = latency + 2 + has_shift + tree + has_scale
    b.steps.append(Step(kind, (g.beats, g.groups, depth)))
    b.clocked(
        "quire_linear",
        {
            **g.parameters,
            "ROM_LATENCY": latency,
            "X_SIG_W": x.sig_bits,
            "X_SHIFT_W": max(1, x.shift_bits),
            "X_SCALE_W": max(1, x.scale_bits),
            "W_SIG_W": w.sig_bits,
            "W_SHIFT_W": max(1, w.shift_bits),
            "HAS_SHIFT": has_shift,
            "ALIGNED_W": aligned,
            "HAS_SCALE": has_scale,
            "SCALE_SIG_W": grid.sign_bits,
            "SCALE_SHIFT_W": grid.shift_bits,
            "ACC_W": total.bits,
        },
        {
            "in_valid_i": net.valid,
            "in_ready_o": net.ready,
            "in_sig_i": x.sig,
            "in_shift_i": x.shift,
            "in_scale_i": x.scale,
            "rom_en_o": enable,
            **weight_ports,
            **scale_ports,
            "bias_addr_o": group,
            "bias_i": bias,
            "out_valid_o": valid,
            "out_ready_i": ready,
            "out_data_o": data,
        },
    )
    return Net(b, (*net.shape[:-1], g.n), g.m_out, total, valid, ready, data)


def _weights(net: Net, weight: Weight, g: _Geometry, enable: str, rom: str) -> dict[str, str]:
    """The decoded weights of each step, as ports of the cell."""
    b, element, lanes = net.builder, Codes(weight.format).element, g.m_in * g.m_out
    w = decoder(element)
    padded = _padded(weight.codes, g, _zero_code(element))
    words = [_fields(padded[o, k].flatten().tolist(), element.bits) for o, k in g.order]
    codes, address = _words(net, "weight", lanes * element.bits, words, enable, rom)
    sig = b.wire("weight_sig", lanes * w.sig_bits)
    shift = b.wire("weight_shift", lanes * max(1, w.shift_bits))
    ports = {"code_i": codes, "sig_o": sig, "shift_o": shift}
    b.cell(w.cell, {"LANES": lanes, **w.parameters}, ports)
    return {"weight_addr_o": address, "weight_sig_i": sig, "weight_shift_i": shift}


def _scales(net: Net, grid: _Grid, g: _Geometry, enable: str, rom: str) -> dict[str, str]:
    """The scales of the weights' blocks, as ports of the cell."""
    signs, shifts = g.m_out * grid.sign_bits, g.m_out * grid.shift_bits
    words = _scale_words(grid, g)
    word, address = _words(net, "scale", signs + shifts, words, enable, rom)
    return {
        "scale_addr_o": address,
        "scale_sig_i": part(word, 0, signs),
        "scale_shift_i": part(word, signs, shifts),
    }


def _words(
    net: Net, name: str, bits: int, words: Sequence[int], enable: str, rom: str
) -> tuple[str, str]:
    """The data and the address of a ROM; a constant where all words are alike (a cell of one step
    waits for no ROM), whose address nobody reads."""
    address_bits = max(1, (len(words) - 1).bit_length())
    if len(set(words)) == 1:
        data = net.builder.wire(name, bits, f"{bits}'h{words[0]:x}")
        return data, net.builder.wire(f"unused_{name}_addr", address_bits)
    address = net.builder.wire(f"{name}_addr", address_bits)
    return net.builder.rom(name, bits, words, enable, address, rom), address


def _bias(
    net: Net, biases: Sequence[int], bits: int, g: _Geometry, enable: str, rom: str
) -> tuple[str, str]:
    """The biases of M_out sums and their address; the ROM holds no zeros that all of them end in,
    and no more copies of the sign than one."""
    zeros = min((_trailing_zeros(b) for b in biases if b), default=0)
    stored = [b >> zeros for b in biases] + [0] * g.m_out
    width = 1 + max(max(b, -b - 1).bit_length() for b in stored)
    rows = [_fields(stored[o * g.m_out : (o + 1) * g.m_out], width) for o in range(g.groups)]
    word, address = _words(net, "bias", g.m_out * width, rows, enable, rom)
    sign = max(0, bits - width - zeros)
    lanes = [
        [f"{{{sign}{{{word}[{(i + 1) * width - 1}]}}}}"] * bool(sign)
        + [f"{word}[{i * width} +: {width}]"]
        + [f"{zeros}'d0"] * bool(zeros)
        for i in reversed(range(g.m_out))
    ]
    whole = "{" + ", ".join(part for lane in lanes for part in lane) + "}"
    return net.builder.wire("bias_full", g.m_out * bits, whole), address


def _trailing_zeros(value: int) -> int:
    return (value & -value).bit_length() - 1


def _padded(codes: npt.NDArray[np.int64], g: _Geometry, zero: int) -> npt.NDArray[np.int64]:
    """Codes as (groups, beats, m_out, m_in), padded with the code of zero."""
    whole = np.full((g.groups * g.m_out, g.beats * g.m_in), zero, dtype=np.int64)
    whole[: g.n, : g.k] = codes
    return whole.reshape(g.groups, g.m_out, g.beats, g.m_in).transpose(0, 2, 1, 3)


def _zero_code(element: Format) -> int:
    """The code of zero, or of the nearest value: the sums of padding are used by nobody."""
    return int(element.encode(torch.zeros(1)).codes)


def _scale_words(grid: _Grid, g: _Geometry) -> list[int]:
    """{shifts, odd parts} of the M_out scales of each step."""
    rows = np.minimum(np.arange(g.groups * g.m_out), g.n - 1)
    signs, shifts = grid.signs[rows], grid.shifts[rows]
    return [
        _fields(signs[o * g.m_out : (o + 1) * g.m_out, k].tolist(), grid.sign_bits)
        | _fields(shifts[o * g.m_out : (o + 1) * g.m_out, k].tolist(), grid.shift_bits)
        << (g.m_out * grid.sign_bits)
        for o, k in g.scale_order
    ]


def _product_bits(net: Net, weight: Weight) -> int:
    """Bits of a product of two elements, shifted to the grid of the smallest."""
    assert isinstance(net.values, Codes)
    low, high = interval(net.values.element)
    w = max(abs(int(v)) for v in weight.values.flatten())
    return 1 + (max(high, -low) * max(w, 1)).bit_length()
