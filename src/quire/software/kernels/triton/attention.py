"""Attention with casts on queries, keys, probabilities and values, in one Triton kernel.

A cast rounds the softmax's result, not the exponentials of which an online softmax adds up parts,
so a program goes over the keys twice: for the maximum and the sum of its rows, then for the
probabilities, their cast and the product with the values. Nothing of size tokens^2 reaches memory.
"""

# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false
# Triton's functions have types of their own, which Python's cannot say.

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from quire.software.attention_casts import Casts, Product, products
from quire.software.kernels.elements import Rounding, rounding_of
from quire.software.kernels.triton.arithmetic import round_tile
from quire.software.kernels.triton.linear import IS_INTERPRETED
from quire.software.kernels.triton.rows import storable, store_float

NO_MASK, ADDED_MASK, VISIBLE_MASK = 0, 1, 2
PIPELINED = 64 * 128
"""Values of a tile of keys up to which the next one is loaded meanwhile: shared memory is short."""

CAST_INSIDE = 16
"""Queries up to which keys and values are cast by the program that multiplies them. For more they
are cast once, before: several programs would do it again, and Triton 3.6 gives wrong code for sm_90
where an operand of wgmma, a tile 32 wide, is cast in the loop (addresses beyond shared memory)."""


class Tile(NamedTuple):
    """Queries and keys of a program's tile, and its warps."""

    queries: int
    keys: int
    warps: int


# {queries that a tile serves at most}, ascending; the last serves any number. Products of float32
# numbers run on the CUDA cores, which want less in registers.
TILES = ((16, Tile(16, 64, 4)), (64, Tile(64, 64, 4)), (2**31, Tile(128, 64, 8)))
SLOW_TILES = ((16, Tile(16, 32, 4)), (2**31, Tile(32, 32, 4)))


class Setting(NamedTuple):
    """What is fixed when the kernel is compiled.

    cast_*: None where an operand is taken as it is. (A compile-time constant has a field `value`.)
    score_operand, value_operand: dtypes of the operands of the two products, with their precisions.
    mask: one of the kinds of masks. shared: query heads that share a head of keys.
    depth, width: sizes of a query and of a value. bm, bn, bd, bw: the tile along queries, keys,
    depth and width.
    """

    cast_query: Rounding | None
    cast_key: Rounding | None
    cast_probabilities: Rounding
    cast_value: Rounding | None
    score_operand: Any
    score_precision: str
    value_operand: Any
    value_precision: str
    mask: int
    is_causal: bool
    is_bfloat16: bool
    shared: int
    depth: int
    width: int
    bm: int
    bn: int
    bd: int
    bw: int


@triton.jit
def _operand(pointer, mask, AXIS: tl.constexpr, ROUNDING: tl.constexpr, OPERAND: tl.constexpr):
    """A tile from memory, cast where there is a rounding; zero where masked out."""
    x = tl.load(pointer, mask=mask, other=0.0)
    if ROUNDING is None:
        return x.to(OPERAND)
    else:
        return round_tile(x.to(tl.float32), AXIS, ROUNDING).to(OPERAND)


@triton.jit
def _places(rows, columns, strides):
    """Offsets of (rows, columns) in a tensor (batch, head, row, column) with these strides."""
    return rows[:, None].to(tl.int64) * strides[2] + columns[None, :] * strides[3]


@triton.jit
def _scores(
    query, key, mask, rows, start, key_strides, mask_strides, queries, keys, scale, S: tl.constexpr
):
    """Scaled and masked scores (bm, bn) of the keys from `start` on."""
    KEY: tl.constexpr = S.cast_key
    n, d = start + tl.arange(0, S.bn), tl.arange(0, S.bd)
    inside = (n < keys)[:, None] & (d < S.depth)[None, :]
    tile = _operand(key + _places(n, d, key_strides), inside, 1, KEY, S.score_operand)
    scores = tl.dot(query, tl.trans(tile), input_precision=S.score_precision) * scale
    visible = (n < keys)[None, :]
    if S.mask != 0:
        known = (rows < queries)[:, None] & visible
        # A mask may be transposed: the keys' stride times their number passes 2^31 first.
        places = _places(rows, n.to(tl.int64), mask_strides)
        value = tl.load(mask + places, mask=known, other=0)
        if S.mask == 1:
            scores += value.to(tl.float32)
        else:
            visible = visible & (value != 0)
    if S.is_causal:
        visible = visible & (n[None, :] <= rows[:, None])
    return tl.where(visible, scores, float("-inf"))


@triton.jit
def _finite(largest):
    """The maxima of rows, 0 where all scores are minus infinity: exp gives zeros there."""
    return tl.where(largest == float("-inf"), 0.0, largest)


@triton.jit
def _attend(
    query,
    key,
    value,
    mask,
    out,
    query_strides,
    key_strides,
    value_strides,
    mask_strides,
    heads,
    queries,
    keys,
    scale,
    S: tl.constexpr,
):
    QUERY: tl.constexpr = S.cast_query
    PROBABILITIES: tl.constexpr = S.cast_probabilities
    VALUE: tl.constexpr = S.cast_value
    tiles = tl.cdiv(queries, S.bm)
    # The last queries see the most keys where the mask is causal: they start first.
    first = (tiles - 1 - tl.program_id(0) % tiles) * S.bm
    matrix = (tl.program_id(0) // tiles).to(tl.int64)
    batch, head = matrix // heads, matrix % heads
    query += batch * query_strides[0] + head * query_strides[1]
    key += batch * key_strides[0] + head // S.shared * key_strides[1]
    value += batch * value_strides[0] + head // S.shared * value_strides[1]
    mask += batch * mask_strides[0] + head * mask_strides[1]
    rows, d, w = first + tl.arange(0, S.bm), tl.arange(0, S.bd), tl.arange(0, S.bw)
    present = (rows < queries)[:, None] & (d < S.depth)[None, :]
    tile = _operand(query + _places(rows, d, query_strides), present, 1, QUERY, S.score_operand)
    end = keys
    if S.is_causal:
        end = tl.minimum(keys, first + S.bm)
    largest = tl.full((S.bm,), float("-inf"), tl.float32)
    total = tl.full((S.bm,), 0.0, tl.float32)
    for start in range(0, end, S.bn):
        scores = _scores(
            tile, key, mask, rows, start, key_strides, mask_strides, queries, keys, scale, S
        )
        new = tl.maximum(largest, tl.max(scores, axis=1))
        parts = tl.sum(tl.exp(scores - _finite(new)[:, None]), axis=1)
        total = total * tl.exp(largest - _finite(new)) + parts
        largest = new
    # A row that is masked throughout has probabilities of 0.
    factor = 1.0 / tl.where(total == 0, 1.0, total)
    result = tl.full((S.bm, S.bw), 0.0, tl.float32)
    for start in range(0, end, S.bn):
        scores = _scores(
            tile, key, mask, rows, start, key_strides, mask_strides, queries, keys, scale, S
        )
        exact = tl.exp(scores - _finite(largest)[:, None]) * factor[:, None]
        probabilities = round_tile(exact, 1, PROBABILITIES).to(S.value_operand)
        n = start + tl.arange(0, S.bn)
        known = (n < keys)[:, None] & (w < S.width)[None, :]
        values = _operand(value + _places(n, w, value_strides), known, 0, VALUE, S.value_operand)
        result = tl.dot(probabilities, values, result, input_precision=S.value_precision)
    # out is contiguous.
    row = matrix * queries + rows
    inside = (rows < queries)[:, None] & (w < S.width)[None, :]
    store_float(out + row[:, None] * S.width + w[None, :], result, inside, S.is_bfloat16)


@triton.jit
def _cast(
    x,
    out,
    strides,
    heads,
    tokens,
    AXIS: tl.constexpr,
    ROUNDING: tl.constexpr,
    IS_BFLOAT16: tl.constexpr,
    SIZE: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
):
    """The cast of keys or values (batch, heads, tokens, SIZE) along an axis of their matrices."""
    tiles = tl.cdiv(tokens, BN)
    matrix = (tl.program_id(0) // tiles).to(tl.int64)
    batch, head = matrix // heads, matrix % heads
    n, d = tl.program_id(0) % tiles * BN + tl.arange(0, BN), tl.arange(0, BD)
    inside = (n < tokens)[:, None] & (d < SIZE)[None, :]
    source = x + batch * strides[0] + head * strides[1] + _places(n, d, strides)
    rounded = _operand(source, inside, AXIS, ROUNDING, tl.float32)
    row = matrix * tokens + n
    store_float(out + row[:, None] * SIZE + d[None, :], rounded, inside, IS_BFLOAT16)


def _cast_before(
    x: Tensor, axis: int, rounding: Rounding | None, product: Product, bn: int, bd: int
) -> Tensor:
    """Keys or values cast, in the dtype of their product, contiguous."""
    if rounding is None:
        return x
    batch, heads, tokens, size = x.shape
    out = torch.empty(x.shape, dtype=product.dtype, device=x.device)
    target, is_bfloat16 = storable(out)
    _cast[(triton.cdiv(tokens, bn) * batch * heads,)](
        x,
        target,
        x.stride(),
        heads,
        tokens,
        AXIS=axis,
        ROUNDING=rounding,
        IS_BFLOAT16=is_bfloat16,
        SIZE=size,
        BN=bn,
        BD=bd,
        num_warps=8,
    )
    return out


def _rounding(format: Any, length: int) -> Rounding | None:
    """The record of a cast along an axis of a tile, which is zero beyond the tensor's."""
    if format is None:
        return None
    rounding = rounding_of(format)
    return rounding._replace(size=min(rounding.size, length))


def _tile(casts: Casts, queries: int, is_slow: bool) -> Tile:
    """The tile for so many queries; it holds whole blocks of keys."""
    tiles = SLOW_TILES if is_slow else TILES
    tile = next(tile for rows, tile in tiles if queries <= rows)
    sizes = [rounding_of(f).size for f in (casts.probabilities, casts.value) if f is not None]
    return tile._replace(keys=max(tile.keys, *sizes))


def _mask(mask: Tensor | None, shape: tuple[int, ...], like: Tensor) -> tuple[Tensor, int]:
    """The mask, broadcast, for the kernel, and its kind."""
    if mask is None:
        return like, NO_MASK
    mask = mask.expand(shape)
    if mask.dtype == torch.bool:
        return mask.view(torch.uint8), VISIBLE_MASK
    return mask, ADDED_MASK


def _operand_dtype(product: Product) -> Any:
    """The dtype of operands in Triton, whose interpreter multiplies bfloat16 by their bits."""
    is_narrow = product.dtype == torch.bfloat16 and not IS_INTERPRETED
    return tl.bfloat16 if is_narrow else tl.float32


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    casts: Casts,
    scale: float,
    is_causal: bool,
) -> Tensor:
    """softmax(cast(query) cast(key)^T * scale + mask), cast, times cast(value).

    query (b, h, tq, d), key (b, g, tk, d), value (b, g, tk, w): float32, bfloat16 or float16, any
    strides; g divides h. mask: broadcasts to (b, h, tq, tk); a boolean one is true where a key is
    visible, another is added. is_causal: a key is visible to its own query and later ones.
    casts: without a problem (`Casts.problem`). Returns (b, h, tq, w) in the dtype of query.
    """
    batch, heads, queries, depth = query.shape
    groups, keys, width = value.shape[1:]
    out = torch.empty((batch, heads, queries, width), dtype=query.dtype, device=query.device)
    if not out.numel() or not keys:
        return out.zero_()
    scores, values = products(casts, query, key, value)
    bm, bn, warps = _tile(casts, queries, scores.is_slow or values.is_slow)
    bd, bw = (max(16, triton.next_power_of_2(size)) for size in (depth, width))
    key_cast, value_cast = _rounding(casts.key, bd), _rounding(casts.value, bn)
    if queries > CAST_INSIDE:
        key, key_cast = _cast_before(key, 1, key_cast, scores, bn, bd), None
        value, value_cast = _cast_before(value, 0, value_cast, values, bn, bw), None
    given, kind = _mask(mask, (batch, heads, queries, keys), out)
    target, is_bfloat16 = storable(out)
    setting = Setting(
        cast_query=_rounding(casts.query, bd),
        cast_key=key_cast,
        cast_probabilities=rounding_of(casts.probabilities),
        cast_value=value_cast,
        score_operand=_operand_dtype(scores),
        score_precision=scores.precision,
        value_operand=_operand_dtype(values),
        value_precision=values.precision,
        mask=kind,
        is_causal=is_causal,
        is_bfloat16=is_bfloat16,
        shared=heads // groups,
        depth=depth,
        width=width,
        bm=bm,
        bn=bn,
        bd=bd,
        bw=bw,
    )
    _attend[(triton.cdiv(queries, bm) * batch * heads,)](
        query,
        key,
        value,
        given,
        target,
        query.stride(),
        key.stride(),
        value.stride(),
        given.stride(),
        heads,
        queries,
        keys,
        scale,
        S=setting,
        num_warps=warps,
        num_stages=2 if bn * max(bd, bw) <= PIPELINED else 1,
    )
    return out
