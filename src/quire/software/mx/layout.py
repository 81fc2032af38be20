"""The plain layout of a weight: rows of codes and their scales, as OCP Microscaling lays them.

A weight (out_features n, in_features k) has its blocks along k. `codes` is uint8 of shape (n,
ceil(k * w / 8)): the w-bit codes of a row, lowest bits first, each row from a whole byte on.
`scales` is uint8 of shape (n, ceil(k / size)): E8M0 codes.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.errors import FormatError
from quire.formats import Block, Fixed, Format, Minifloat, Pow2, parse
from quire.formats.base import Scalar

BLOCK_SIZES = (16, 32, 64, 128)
# The elements of MXInt, and of MXFP in OCP Microscaling 1.0, table 1.
ELEMENTS: tuple[Scalar, ...] = (
    *(Fixed(w, w - 2) for w in (4, 6, 8)),
    Minifloat(4, 3, special="nan"),
    Minifloat(5, 2, special="ieee"),
    Minifloat(3, 2),
    Minifloat(2, 3),
    Minifloat(2, 1),
)
E8M0 = Pow2(8)

Shape = tuple[int, ...]


def supports(format: Format) -> bool:
    """Whether a format has this layout, and with it the ops of `quire.software.mx.ops`."""
    return (
        isinstance(format, Block)
        and format.element in ELEMENTS
        and format.size in BLOCK_SIZES
        and format.scale == E8M0
    )


@cache
def format_of(text: str) -> Block:
    """The format that a string names; raises `FormatError` for one without this layout."""
    format = parse(text)
    if isinstance(format, Block) and supports(format):
        return format
    raise FormatError(
        f"{text}: the mx ops take a block of {', '.join(map(str, BLOCK_SIZES))} elements"
        f" {', '.join(map(str, ELEMENTS))} under a scale {E8M0}, such as mxint8 or"
        " bfp(4,scale_bits=8,size=64)"
    )


def block_size(format: Block) -> int:
    """The number of elements that share a scale."""
    return int(format.size)


def row_bytes(format: Block, k: int) -> int:
    """Bytes of the codes of a row of k elements."""
    return -(-k * format.bits // 8)


def row_blocks(format: Block, k: int) -> int:
    """Scales of a row of k elements."""
    return -(-k // block_size(format))


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes of 4, 6 or 8 bits, one a byte (uint8, (..., k)), to the bytes of their rows."""
    if bits == 8:
        return codes
    k = codes.shape[-1]
    group, size = _GROUPS[bits]
    padded = F.pad(codes, (0, -k % group)).unflatten(-1, (-1, group))
    parts = padded.unbind(-1)
    packed = torch.stack([_byte(parts, bits, index) for index in range(size)], -1)
    return packed.flatten(-2)[..., : -(-k * bits // 8)].contiguous()


def unpack(data: Tensor, bits: int, k: int) -> Tensor:
    """The inverse of `pack`: uint8 of shape (..., k)."""
    if bits == 8:
        return data
    group, size = _GROUPS[bits]
    padded = F.pad(data, (0, -data.shape[-1] % size)).unflatten(-1, (-1, size))
    parts = padded.unbind(-1)
    codes = torch.stack([_code(parts, bits, index) for index in range(group)], -1)
    return codes.flatten(-2)[..., :k]


# {bits of a code: (codes, bytes) of the smallest group that fills whole bytes}
_GROUPS = {4: (2, 1), 6: (4, 3)}


def _byte(codes: tuple[Tensor, ...], bits: int, index: int) -> Tensor:
    """Byte `index` of a group of codes; what is shifted beyond 8 bits falls away."""
    low, high = 8 * index, 8 * index + 8
    byte = torch.zeros_like(codes[0])
    for position, code in enumerate(codes):
        start = bits * position
        if start < high and start + bits > low:
            byte |= code << (start - low) if start >= low else code >> (low - start)
    return byte


def _code(data: tuple[Tensor, ...], bits: int, index: int) -> Tensor:
    """Code `index` of a group of bytes."""
    first, shift = divmod(bits * index, 8)
    code = data[first] >> shift
    if shift + bits > 8:
        code = code | (data[first + 1] << (8 - shift))
    return code & (2**bits - 1)


@cache
def element_values(format: Block, device: torch.device) -> Tensor:
    """The value of every code of an element, float32 (each is exact there)."""
    codes = torch.arange(2**format.bits, device=device)
    return format.element.values_of(codes).float()


@cache
def scale_values(device: torch.device) -> Tensor:
    """The value of every E8M0 code, float32: 2^(c-127), and NaN for 255."""
    return E8M0.values_of(torch.arange(256, device=device)).float()
