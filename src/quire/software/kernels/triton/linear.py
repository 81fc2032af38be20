"""The linear of a packed weight in Triton: out = x @ W^T + bias, W dequantized in registers.

The weight is the left operand of the product, which stays in registers on Hopper. An element times
its scale is exact in bfloat16 but for the smallest scales of mxfp8, where it is rounded as
`Format.decode` rounds it; sums are in float32. The result is the same from run to run: no atomics.
"""

# pyright: basic, reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# Triton's functions have types of their own, which Python's cannot say.

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from quire.formats import Block
from quire.software.kernels import Weight
from quire.software.kernels.elements import element_of
from quire.software.kernels.triton.arithmetic import decode_blocks, saturate
from quire.software.kernels.triton.rows import load_codes, storable, store_float
from quire.software.kernels.triton.tiles import splits_for, tile_for
from quire.software.mx.layout import block_size

# {dtype of x: (operand of the product, its precision)}. A float16 number has 11 significant bits
# and an element at most 8: both are exact in TF32, whose range no scale leaves.
OPERANDS = {
    torch.bfloat16: (tl.bfloat16, "ieee"),
    torch.float16: (tl.float32, "tf32"),
    torch.float32: (tl.float32, "ieee"),
}
IS_INTERPRETED: bool = knobs.runtime.interpret
# Tiles along m that share the rows of a weight in the cache.
GROUP = tl.constexpr(8)


@triton.jit
def _place(m, n, SPLITS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Tile along m, tile along n and part of the sum of a program."""
    tiles_m, tiles_n = tl.cdiv(m, BM), tl.cdiv(n, BN)
    split = tl.program_id(0) % SPLITS
    tile = tl.program_id(0) // SPLITS
    first = tile // (GROUP * tiles_n) * GROUP
    height = tl.minimum(tiles_m - first, GROUP)
    within = tile % (GROUP * tiles_n)
    return first + within % height, within // height, split


@triton.jit
def _linear(
    x,
    codes,
    scales,
    bias,
    out,
    m,
    n,
    k,
    steps,
    row_bytes,
    blocks,
    SIZE: tl.constexpr,
    ELEMENT: tl.constexpr,
    HIGHEST: tl.constexpr,
    OPERAND: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    IS_BFLOAT16: tl.constexpr,
    SPLITS: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    tile_m, tile_n, split = _place(m, n, SPLITS, BM, BN)
    r = (tile_n * BN + tl.arange(0, BN))[:, None].to(tl.int64)
    c = (tile_m * BM + tl.arange(0, BM))[None, :].to(tl.int64)
    BLOCKS: tl.constexpr = max(1, BK // SIZE)
    total = tl.zeros((BN, BM), tl.float32)
    for step in range(steps):
        start = (split * steps + step) * BK
        code = load_codes(codes + r * row_bytes, r < n, start, row_bytes, ELEMENT.bits, BK)
        b = (start // SIZE + tl.arange(0, BLOCKS))[None, :]
        scale = tl.load(scales + r * blocks + b, mask=(r < n) & (b < blocks), other=127)
        values = decode_blocks(code, scale.to(tl.int32), ELEMENT)
        weight = saturate(values, ELEMENT, HIGHEST).to(OPERAND)
        d = (start + tl.arange(0, BK))[:, None]
        activation = tl.load(x + c * k + d, mask=(c < m) & (d < k), other=0.0).to(OPERAND)
        total = tl.dot(weight, activation, total, input_precision=PRECISION)
    if HAS_BIAS and SPLITS == 1:
        total += tl.load(bias + r, mask=r < n, other=0.0).to(tl.float32)
    # With a split sum, out is (SPLITS, m, n).
    store_float(out + (split * m + c) * n + r, total, (r < n) & (c < m), IS_BFLOAT16)


@triton.jit
def _sum_parts(
    parts,
    bias,
    out,
    m,
    n,
    HAS_BIAS: tl.constexpr,
    IS_BFLOAT16: tl.constexpr,
    SPLITS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((COLUMNS,), tl.float32)
    for split in range(SPLITS):
        total += tl.load(parts + (split * m + row) * n + c, mask=c < n, other=0.0)
    if HAS_BIAS:
        total += tl.load(bias + c, mask=c < n, other=0.0).to(tl.float32)
    store_float(out + row * n + c, total, c < n, IS_BFLOAT16)


@cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def linear(
    x: Tensor, weight: Weight, bias: Tensor | None, format: Block, n: int, splits: int | None = None
) -> Tensor:
    """x (m, k) times a plain weight (n, k), with its bias (n,): (m, n) in x's dtype.

    x: bfloat16, float16 or float32, contiguous. splits: programs that share a sum (default: as many
    as fill the device). The operands of the product are exact, its sums are in float32.
    """
    (m, k), dtype = x.shape, x.dtype
    out = torch.empty((m, n), dtype=dtype, device=x.device)
    if not out.numel():
        return out
    tile = tile_for(m, dtype)
    splits = splits or splits_for(tile, m, n, k, _processors(x.device))
    operand, precision = OPERANDS[dtype]
    is_split = splits > 1
    sums = torch.empty((splits, m, n), dtype=torch.float32, device=x.device) if is_split else out
    target, is_bfloat16 = storable(sums)
    _linear[(triton.cdiv(m, tile.m) * triton.cdiv(n, tile.n) * splits,)](
        x,
        weight.codes,
        weight.scales,
        bias,
        target,
        m,
        n,
        k,
        triton.cdiv(triton.cdiv(k, tile.k), splits),
        weight.codes.shape[1],
        weight.scales.shape[1],
        SIZE=block_size(format),
        ELEMENT=element_of(format.element),
        HIGHEST=torch.finfo(torch.bfloat16 if dtype == torch.bfloat16 else torch.float32).max,
        # The interpreter multiplies bfloat16 numbers by their bits.
        OPERAND=tl.float32 if IS_INTERPRETED else operand,
        PRECISION=precision,
        HAS_BIAS=bias is not None,
        IS_BFLOAT16=is_bfloat16,
        SPLITS=splits,
        BM=tile.m,
        BN=tile.n,
        BK=tile.k,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    if is_split:
        _add_up(sums, bias, out)
    return out


def _add_up(parts: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """The sum of parts (splits, m, n) in their order, with the bias, into out (m, n)."""
    (splits, m, n), columns = parts.shape, 256
    target, is_bfloat16 = storable(out)
    _sum_parts[(m, triton.cdiv(n, columns))](
        parts,
        bias,
        target,
        m,
        n,
        HAS_BIAS=bias is not None,
        IS_BFLOAT16=is_bfloat16,
        SPLITS=splits,
        COLUMNS=columns,
    )
