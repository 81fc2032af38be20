"""The kernels' decoding of tiled weights (`element.cuh`, `tile.cuh`), word by word in torch.

One function a coding; everything else is where a thread of a warp finds its words.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from quire.formats import Block, Fixed
from quire.software.kernels import Weight
from quire.software.mx.layout import block_size

CHUNK, THREADS = 64, 128
Decode = Callable[[Tensor, int, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
"""(words (..., bits), step, top, bottom) to the halves a[0] .. a[3], each (..., 2) in float64;
top, bottom: the multipliers (...) as bits of a bf16."""


def bf16(bits: Tensor) -> Tensor:
    """The bf16 numbers with these bits (low 16), in float64."""
    signed = torch.where(bits & 0x8000 != 0, (bits & 0xFFFF) - 0x10000, bits & 0xFFFF)
    return signed.to(torch.int16).view(torch.bfloat16).double()


def halves(words: Tensor) -> Tensor:
    """The low and the high 16 bits of words: (...) to (..., 2)."""
    return torch.stack([words & 0xFFFF, words >> 16 & 0xFFFF], -1)


def fma2(words: Tensor, power: Tensor, offset: Tensor | float) -> Tensor:
    """Both halves times a power of two, plus an offset, rounded once to bf16."""
    exact = bf16(halves(words)) * bf16(power)[..., None] + offset
    rounded = exact.to(torch.bfloat16).double()
    assert torch.equal(exact, rounded), "the product is not exact in bf16"
    return rounded


def byte_swapped(words: Tensor) -> Tensor:
    """`__byte_perm(w, 0, 0x2301)`: the bytes of each half change places."""
    return (words & 0x00FF00FF) << 8 | words >> 8 & 0x00FF00FF


def decode8(words: Tensor, step: int, top: Tensor, bottom: Tensor):
    mask = 0x807F807F
    w0, w1 = words[..., 2 * step], words[..., 2 * step + 1]
    return (
        fma2(w0 & mask, top, 0.0),
        fma2(w1 & mask, bottom, 0.0),
        fma2(byte_swapped(w0) & mask, top, 0.0),
        fma2(byte_swapped(w1) & mask, bottom, 0.0),
    )


def _offset(words: Tensor, power: Tensor, offset_bits: int) -> Tensor:
    """128 + u 2^i times S, minus (128 + offset) S."""
    return fma2(words, power, bf16(power + offset_bits)[..., None])


def decode4(words: Tensor, step: int, top: Tensor, bottom: Tensor):
    w = words[..., step]
    first, second = (
        (
            fma2(word & 0x80078007, top, 0.0),
            _offset(word & 0x00780078 | 0x43004300, bottom, 0x83C0),
        )
        for word in (w, byte_swapped(w))
    )
    return *first, *second


def decode6(words: Tensor, step: int, top: Tensor, bottom: Tensor):
    scales = (top, bottom, top, bottom)
    found = []
    for j, scale in enumerate(scales):
        low = words[..., step] >> 4 * j & 0x000F000F
        shift = 2 * (4 * (step % 2) + j) - 4
        word = words[..., 4 + step // 2]
        upper = (word << -shift if shift < 0 else word >> shift) & 0x00300030
        found.append(_offset(low | upper | 0x43004300, scale, 0x83A0))
    return tuple(found)


DECODES: dict[Fixed, Decode] = {
    Fixed(8, 6): decode8,
    Fixed(6, 4): decode6,
    Fixed(4, 2): decode4,
}


def words_of(codes: Tensor, bits: int) -> Tensor:
    """The words of each thread, (tiles, chunks, 128, bits), as `Packed::load` reads them."""
    vectors = bits // 4
    whole = codes[..., : vectors * THREADS * 16].unflatten(-1, (vectors, THREADS, 4, 4))
    parts = [whole.transpose(2, 3).flatten(3, 4)]
    if bits % 4:
        parts.append(codes[..., vectors * THREADS * 16 :].unflatten(-1, (THREADS, 2, 4)))
    bytes_of = torch.cat(parts, 3).long()
    return sum(bytes_of[..., i] << 8 * i for i in range(4))  # type: ignore[return-value]


def multipliers(scales: Tensor, size: int, step: int) -> tuple[Tensor, Tensor]:
    """Those of the two row halves of each thread in a step, (tiles, chunks, 128), as bf16 bits."""
    per_row = 2 * CHUNK // min(size, CHUNK)
    mine = scales.unflatten(-1, (THREADS // 4, per_row)).repeat_interleave(4, 2).long()
    block = step * per_row // 8
    return mine[..., 2 * block] << 7, mine[..., 2 * block + 1] << 7


def decoded(weight: Weight, format: Block, n: int, k: int) -> Tensor:
    """The values (n, k) that the kernels multiply by, in float64."""
    assert weight.row_scale is not None
    assert isinstance(format.element, Fixed)
    decode, words = DECODES[format.element], words_of(weight.codes, format.bits)
    tiles, chunks = words.shape[:2]
    steps = []
    for step in range(4):
        registers = decode(words, step, *multipliers(weight.scales, block_size(format), step))
        # (tiles, chunks, warp, r, q, parity), then (g, half) from a[half + 2 g]
        split = [a.unflatten(2, (4, 8, 4)) for a in registers]
        steps.append(torch.stack(split, -1).unflatten(-1, (2, 2)))
    values = torch.stack(steps, 2)  # tile, chunk, step, warp, r, q, parity, g, half
    ordered = values.permute(0, 3, 8, 4, 1, 2, 7, 5, 6).reshape(tiles * 64, chunks * CHUNK)
    return ordered[:n, :k] * weight.row_scale.double()[:, None]
