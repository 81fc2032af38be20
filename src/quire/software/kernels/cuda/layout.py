"""The tiled layout of a weight: the order in which the CUDA kernels of `mx_linear` read it.

A weight (n, k) is cut into tiles of 64 rows and chunks of 64 columns (both padded with zeros, k to
two chunks). Of a chunk of a tile each of 128 threads takes its part of a matrix product's A
fragment in 16-byte words, so that a warp's load is one run of memory; `element.cuh` says which bit
is what.
The scale of a block is kept as the exponent field of the bf16 by which its elements are multiplied.
Rows are named (tile, warp, half, r), columns (chunk, step, g, q, parity), both outermost first:
row = 64 tile + 16 warp + 8 half + r, column = 64 chunk + 16 step + 8 g + 2 q + parity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.formats import Block, Fixed, Format, Scalar
from quire.software.kernels import Weight
from quire.software.mx.layout import block_size, pack, row_blocks, unpack

ROWS, CHUNK, PADDING = 64, 64, 128
_LARGEST_SHIFT = 127  # 2^127 is the largest power of two in float32
_ROW_SHAPE, _COLUMN_SHAPE = (4, 2, 8), (4, 2, 4, 2)  # (warp, half, r), (step, g, q, parity)


@dataclass(frozen=True)
class Field:
    """The exponent field by which the elements of a row are multiplied.

    offset: the field minus the E8M0 code.
    lowest, highest: the fields that the kernel's arithmetic takes.
    zero: the field of a block of zeros whose E8M0 code is 0.
    """

    offset: int
    lowest: int
    highest: int
    zero: int


@dataclass(frozen=True)
class Coding:
    """How the elements and scales of a width are held.

    fields: of rows r and r + 8 of each 16. is_symmetric: whether the lowest code has no place.
    pack: codes (tile, chunk, warp, half, r, step, g, q, parity), int16 two's complement, to bytes
        (tile, chunk, bytes of a chunk). unpack: the inverse.
    """

    fields: tuple[Field, Field]
    is_symmetric: bool
    pack: Callable[[Tensor], Tensor]
    unpack: Callable[[Tensor], Tensor]


def _pack4(q: Tensor) -> Tensor:
    sign, magnitude, biased = _sign(q), q.abs().to(torch.uint8), (q + 8).to(torch.uint8) << 3
    low = sign[:, :, :, 0, :, :, 1] | biased[:, :, :, 1, :, :, 0] | magnitude[:, :, :, 0, :, :, 0]
    high = sign[:, :, :, 0, :, :, 0] | biased[:, :, :, 1, :, :, 1] | magnitude[:, :, :, 0, :, :, 1]
    # (tile, chunk, warp, r, step, q, parity, byte)
    both = torch.stack([low, high], -1)
    return both.permute(0, 1, 2, 3, 5, 4, 6, 7).flatten(2)


def _unpack4(data: Tensor) -> Tensor:
    # (tile, chunk, warp, r, q, step, parity, byte)
    low, high = data.unflatten(2, (4, 8, 4, 4, 2, 2)).permute(0, 1, 2, 3, 5, 4, 6, 7).unbind(-1)
    top = [_signed(high, low & 7), _signed(low, high & 7)]
    bottom = [(byte >> 3 & 15).to(torch.int16) - 8 for byte in (low, high)]
    # (tile, chunk, warp, half, r, step, g, q, parity)
    return torch.stack([torch.stack(half, 5) for half in (top, bottom)], 3)


def _pack_nibbles(u: Tensor) -> Tensor:
    """Codes of 4 bits; byte g of a half holds both halves of the rows."""
    # (tile, chunk, warp, half, r, step, g, q, parity) -> (..., warp, r, q, step, parity, g, half)
    ordered = u.permute(0, 1, 2, 4, 7, 5, 8, 6, 3)
    return (ordered[..., 0] | ordered[..., 1] << 4).flatten(2)


def _unpack_nibbles(data: Tensor) -> Tensor:
    data = data.unflatten(2, (4, 8, 4, 4, 2, 2))
    return torch.stack([data & 15, data >> 4], -1).permute(0, 1, 2, 8, 3, 5, 7, 4, 6)


def _pack6(q: Tensor) -> Tensor:
    u = (q + 32).to(torch.uint8)
    # Fields of two bits: j = half + 2 g from the lowest, byte step % 2, word step / 2.
    upper = (u >> 4).unflatten(5, (2, 2)).permute(0, 1, 2, 4, 8, 5, 9, 6, 7, 3)
    fields = [upper[..., g, half] << 2 * (half + 2 * g) for g in (0, 1) for half in (0, 1)]
    high = fields[0] | fields[1] | fields[2] | fields[3]
    return torch.cat([_pack_nibbles(u & 15), high.flatten(2)], 2)


def _unpack6(data: Tensor) -> Tensor:
    low = _unpack_nibbles(data[:, :, :2048])
    high = data[:, :, 2048:].unflatten(2, (4, 8, 4, 2, 2, 2))  # warp, r, q, step/2, parity, step%2
    fields = torch.stack([high >> shift & 3 for shift in (0, 2, 4, 6)], -1).unflatten(-1, (2, 2))
    # (tile, chunk, warp, r, q, step/2, parity, step%2, g, half)
    upper = fields.permute(0, 1, 2, 9, 3, 5, 7, 8, 4, 6).flatten(5, 6)
    return (low | upper << 4).to(torch.int16) - 32


def _pack8(q: Tensor) -> Tensor:
    sign, magnitude = _sign(q), q.abs().to(torch.uint8)
    low = sign[:, :, :, :, :, :, 1] | magnitude[:, :, :, :, :, :, 0]  # of g = 0, sign of g = 1
    high = sign[:, :, :, :, :, :, 0] | magnitude[:, :, :, :, :, :, 1]
    # (tile, chunk, warp, half, r, step, q, parity, byte), the step as (vector, step % 2)
    both = torch.stack([low, high], -1).unflatten(5, (2, 2))
    return both.permute(0, 1, 5, 2, 4, 7, 6, 3, 8, 9).flatten(2)


def _unpack8(data: Tensor) -> Tensor:
    # (tile, chunk, vector, warp, r, q, step % 2, half, parity, byte)
    data = data.unflatten(2, (2, 4, 8, 4, 2, 2, 2, 2))
    low, high = data.permute(0, 1, 3, 7, 4, 2, 6, 5, 8, 9).flatten(5, 6).unbind(-1)
    first, second = _signed(high, low), _signed(low, high)
    return torch.stack([first, second], 6)


def _sign(q: Tensor) -> Tensor:
    return (q < 0).to(torch.uint8) << 7


def _signed(sign: Tensor, magnitude: Tensor) -> Tensor:
    value = (magnitude & 127).to(torch.int16)
    return torch.where(sign > 127, -value, value)


# A power that multiplies subnormals is at least 2^0, so that nothing is rounded, but for the number
# 0, which zeros take; one that comes with an offset is normal, with room above for 2^7 times it.
_SIGNED8, _SIGNED4 = Field(127, 127, 254, 0), Field(131, 127, 254, 0)
_OFFSET6, _OFFSET4 = Field(-4, 1, 240, 1), Field(-5, 1, 240, 1)
CODINGS: dict[Scalar, Coding] = {
    Fixed(8, 6): Coding((_SIGNED8, _SIGNED8), True, _pack8, _unpack8),
    Fixed(6, 4): Coding((_OFFSET6, _OFFSET6), False, _pack6, _unpack6),
    Fixed(4, 2): Coding((_SIGNED4, _OFFSET4), True, _pack4, _unpack4),
}


def is_tileable(format: Format) -> bool:
    """Whether the tiled layout holds elements and blocks of a format."""
    return isinstance(format, Block) and format.element in CODINGS


def tiled_shape(n: int, k: int) -> tuple[int, int]:
    """The tiles and chunks of a weight (n, k)."""
    return -(-n // ROWS), -(-k // PADDING) * (PADDING // CHUNK)


def tile(weight: Weight, format: Format, k: int, dtype: torch.dtype) -> Weight | None:
    """A plain weight (n, k) in the tiled layout; None where that does not hold it exactly.

    That is: where a scale is NaN, where a code of 8 or 4 bits is the lowest (-2, which encoders
    never give), where the scales of one row span more than 127 binades, where a row of 4 bits
    has a scale above 2^123, and where there are no values.
    Returns codes (tiles, chunks, bytes), scales (tiles, chunks, bytes) and row_scale (n,): float32
    powers of two with which the kernel multiplies the sums of each row.
    """
    assert isinstance(format, Block)
    if not weight.scales.numel():
        return None
    coding = CODINGS[format.element]
    codes = unpack(weight.codes, format.bits, k).to(torch.int16)
    q = codes - (codes >> (format.bits - 1) << format.bits)  # two's complement
    scales, is_zero = weight.scales.int(), _zero_blocks(q, format)
    empty = is_zero & (scales == 0)  # as encoders write a block of zeros
    offset, lowest, highest, zero = _fields(coding, scales)
    shift = _shift(scales, empty, offset, lowest, highest)
    fields = torch.where(empty, zero, scales + offset - shift)
    lost = ~empty & ((fields < lowest) | (fields > highest) | (scales == 255))
    lost |= (is_zero & ~empty & (fields == zero)) | (shift > _LARGEST_SHIFT)
    lowest_code = -(1 << format.bits - 1)
    if lost.any() or (coding.is_symmetric and (q == lowest_code).any()):
        return None
    row_scale = torch.ldexp(torch.ones_like(shift, dtype=torch.float32), shift)
    return Weight(_tiled(q, coding), _tiled_fields(fields, format), row_scale.flatten())


def untile(weight: Weight, format: Format, n: int, k: int, dtype: torch.dtype) -> Weight:
    """The plain weight (n, k) of a tiled one: the exact inverse of `tile`."""
    assert isinstance(format, Block)
    assert weight.row_scale is not None
    coding = CODINGS[format.element]
    q = coding.unpack(weight.codes).permute(0, 2, 3, 4, 1, 5, 6, 7, 8)
    q = q.flatten(4).flatten(0, 3)[:n, :k]
    fields = _plain_fields(weight.scales, format)[:n, : row_blocks(format, k)].int()
    shift = torch.frexp(weight.row_scale).exponent[:, None] - 1
    offset, _, _, zero = _fields(coding, fields)
    empty = _zero_blocks(q, format) & (fields == zero)
    scales = torch.where(empty, 0, fields - offset + shift).to(torch.uint8)
    codes = (q & (1 << format.bits) - 1).to(torch.uint8)
    return Weight(pack(codes, format.bits), scales)


def _zero_blocks(q: Tensor, format: Block) -> Tensor:
    """Which blocks hold zeros alone, (n, blocks)."""
    size = block_size(format)
    return (F.pad(q, (0, -q.shape[-1] % size)).unflatten(-1, (-1, size)) == 0).all(-1)


def _fields(coding: Coding, like: Tensor) -> tuple[Tensor, ...]:
    """The offset, lowest, highest and zero fields of each row, (n, 1)."""
    table = torch.tensor([astuple(field) for field in coding.fields], device=like.device)
    halves = torch.arange(like.shape[0], device=like.device) // 8 % 2
    return table.int()[halves][:, None].unbind(-1)


def _shift(
    scales: Tensor, empty: Tensor, offset: Tensor, lowest: Tensor, highest: Tensor
) -> Tensor:
    """By how much the exponents of each row are lowered, (n, 1): 0 where they fit as they are."""
    largest = scales.where(~empty, -1).amax(-1, keepdim=True)
    smallest = scales.where(~empty, 256).amin(-1, keepdim=True)
    too_high, too_low = largest + offset - highest, smallest + offset - lowest
    return torch.where(largest < 0, 0, torch.maximum(too_high, too_low.clamp(max=0)))


def _padded(rows: Tensor, columns: int, value: int = 0) -> Tensor:
    """Rows and columns filled up to whole tiles and to a multiple of `columns`."""
    n, k = rows.shape
    return F.pad(rows, (0, -k % columns, 0, -n % ROWS), value=value)


def _tiled(q: Tensor, coding: Coding) -> Tensor:
    split = _padded(q, PADDING).unflatten(1, (-1, *_COLUMN_SHAPE)).unflatten(0, (-1, *_ROW_SHAPE))
    # (tile, warp, half, r, chunk, step, g, q, parity): the chunk to the front
    return coding.pack(split.permute(0, 4, 1, 2, 3, 5, 6, 7, 8)).contiguous()


def _tiled_fields(fields: Tensor, format: Block) -> Tensor:
    """Exponent fields (n, blocks) as (tile, chunk, warp, r, block, half) bytes."""
    size = block_size(format)
    repeated = fields.repeat_interleave(max(1, size // CHUNK), 1)
    split = _padded(repeated, PADDING // min(size, CHUNK), 1).to(torch.uint8)
    split = split.unflatten(1, (-1, CHUNK // min(size, CHUNK))).unflatten(0, (-1, *_ROW_SHAPE))
    return split.permute(0, 4, 1, 3, 5, 2).flatten(2).contiguous()


def _plain_fields(data: Tensor, format: Block) -> Tensor:
    size = block_size(format)
    split = data.unflatten(2, (4, 8, -1, 2)).permute(0, 2, 5, 3, 1, 4)
    return split.flatten(4).flatten(0, 3)[:, :: max(1, size // CHUNK)]
