"""Quantize and dequantize rows of block formats in Triton, bit for bit as `quire.formats` does."""

# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false
# Triton's functions have types of their own, which Python's cannot say.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from quire.formats import Block
from quire.software.kernels.elements import element_of, rounding_of
from quire.software.kernels.triton.arithmetic import (
    decode_blocks,
    encode_element,
    magnitude_bits,
    reciprocal,
    saturate,
    scale_code,
    scale_field,
)
from quire.software.kernels.triton.rows import (
    load_codes,
    load_float,
    storable,
    store_codes,
    store_float,
)
from quire.software.mx.layout import block_size, row_blocks, row_bytes

# Tiles: (rows, columns). Those of one axis keep some 32 values a thread; the tile of both axes
# holds whole blocks of either.
TILE = (32, 128)
WARPS = 4
MIN_BOTH = 64
WARPS_BOTH = 8


@triton.jit
def block_codes(x, ROUNDING: tl.constexpr):
    """Codes (R, C) and scale codes (R, C / SIZE), int32, of float32 x (R, C), blocks along C."""
    R: tl.constexpr = x.shape[0]
    C: tl.constexpr = x.shape[1]
    SIZE: tl.constexpr = ROUNDING.size
    ELEMENT: tl.constexpr = ROUNDING.element
    largest = tl.max(tl.reshape(magnitude_bits(x), (R, C // SIZE, SIZE)), axis=2)
    inverse = reciprocal(scale_field(largest, ROUNDING))[:, :, None]
    y = tl.reshape(x, (R, C // SIZE, SIZE)) * inverse
    # NaN has the code of +0, its block the scale NaN; an empty block has the codes of +0 too.
    y = tl.where((y != y) | (largest == 0)[:, :, None], 0.0, y)
    codes = encode_element(y, ELEMENT)
    return tl.reshape(codes, (R, C)), scale_code(largest, ROUNDING)


@triton.jit
def _store_rows(
    x,
    codes,
    scales,
    row,
    rows,
    column,
    row_bytes,
    blocks,
    ROUNDING: tl.constexpr,
):
    """Store the codes and scales of a tile x whose first value is (row, column)."""
    R: tl.constexpr = x.shape[0]
    C: tl.constexpr = x.shape[1]
    SIZE: tl.constexpr = ROUNDING.size
    row_codes, row_scales = block_codes(x, ROUNDING)
    r = (row + tl.arange(0, R))[:, None].to(tl.int64)
    store_codes(
        codes + r * row_bytes, r < rows, column, row_bytes, row_codes, ROUNDING.element.bits
    )
    b = (column // SIZE + tl.arange(0, C // SIZE))[None, :]
    tl.store(scales + r * blocks + b, row_scales.to(tl.uint8), mask=(r < rows) & (b < blocks))


@triton.jit
def _origin(k, R: tl.constexpr, C: tl.constexpr):
    """The first row and column of a program's tile; tiles follow one another along the rows."""
    across = tl.cdiv(k, C)
    return tl.program_id(0) // across * R, tl.program_id(0) % across * C


@triton.jit
def _load_tile(x, row, m, column, k, IS_BFLOAT16: tl.constexpr, R: tl.constexpr, C: tl.constexpr):
    r = (row + tl.arange(0, R))[:, None].to(tl.int64)
    c = (column + tl.arange(0, C))[None, :]
    return load_float(x + r * k + c, (r < m) & (c < k), IS_BFLOAT16)


@triton.jit
def _quantize(
    x,
    codes,
    scales,
    m,
    k,
    row_bytes,
    blocks,
    ROUNDING: tl.constexpr,
    IS_BFLOAT16: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    row, column = _origin(k, R, C)
    tile = _load_tile(x, row, m, column, k, IS_BFLOAT16, R, C)
    _store_rows(tile, codes, scales, row, m, column, row_bytes, blocks, ROUNDING)


@triton.jit
def _quantize_both(
    x,
    codes,
    scales,
    column_codes,
    column_scales,
    m,
    k,
    row_bytes,
    blocks,
    column_bytes,
    column_blocks,
    ROUNDING: tl.constexpr,
    IS_BFLOAT16: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    row, column = _origin(k, R, C)
    tile = _load_tile(x, row, m, column, k, IS_BFLOAT16, R, C)
    _store_rows(tile, codes, scales, row, m, column, row_bytes, blocks, ROUNDING)
    _store_rows(
        tl.trans(tile),
        column_codes,
        column_scales,
        column,
        k,
        row,
        column_bytes,
        column_blocks,
        ROUNDING,
    )


@triton.jit
def _dequantize(
    codes,
    scales,
    out,
    m,
    k,
    row_bytes,
    blocks,
    SIZE: tl.constexpr,
    ELEMENT: tl.constexpr,
    HIGHEST: tl.constexpr,
    IS_BFLOAT16: tl.constexpr,
    R: tl.constexpr,
    C: tl.constexpr,
):
    row, column = _origin(k, R, C)
    r = (row + tl.arange(0, R))[:, None].to(tl.int64)
    c = (column + tl.arange(0, C))[None, :]
    tile = load_codes(codes + r * row_bytes, r < m, column, row_bytes, ELEMENT.bits, C)
    b = (column // SIZE + tl.arange(0, C // SIZE))[None, :]
    code = tl.load(scales + r * blocks + b, mask=(r < m) & (b < blocks), other=127)
    values = decode_blocks(tile, code.to(tl.int32), ELEMENT)
    mask = (r < m) & (c < k)
    store_float(out + r * k + c, saturate(values, ELEMENT, HIGHEST), mask, IS_BFLOAT16)


def _grid(m: int, k: int, rows: int, columns: int) -> tuple[int]:
    return (-(-m // rows) * -(-k // columns),)


def _row_sizes(plain: tuple[Tensor, Tensor]) -> tuple[int, int]:
    """Bytes and scales of a row: as arguments of a kernel, so that it knows what divides them."""
    return plain[0].shape[1], plain[1].shape[1]


def _new_plain(x: Tensor, format: Block, m: int, k: int) -> tuple[Tensor, Tensor]:
    sizes = (row_bytes(format, k), row_blocks(format, k))
    codes, scales = (torch.empty((m, s), dtype=torch.uint8, device=x.device) for s in sizes)
    return codes, scales


def quantize(x: Tensor, format: Block) -> tuple[Tensor, Tensor]:
    """Plain codes and scales of each row of x (m, k), as `Format.encode` gives them.

    x: float32, bfloat16 or float16, contiguous. A block with NaN or Inf has the scale 255.
    """
    m, k = x.shape
    codes, scales = _new_plain(x, format, m, k)
    source, is_bfloat16 = storable(x)
    rows, columns = TILE
    if x.numel():
        _quantize[_grid(m, k, rows, columns)](
            source,
            codes,
            scales,
            m,
            k,
            *_row_sizes((codes, scales)),
            ROUNDING=rounding_of(format),
            IS_BFLOAT16=is_bfloat16,
            R=rows,
            C=columns,
            num_warps=WARPS,
        )
    return codes, scales


def quantize_both(x: Tensor, format: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes and scales of the rows of x (m, k), and those of its columns; x is read once.

    x: float32, bfloat16 or float16, contiguous. The columns come as the rows of x transposed, in
    the plain layout: codes (k, ceil(m * bits / 8)) and scales (k, ceil(m / size)).
    """
    m, k = x.shape
    plain, columns = _new_plain(x, format, m, k), _new_plain(x, format, k, m)
    source, is_bfloat16 = storable(x)
    side = max(MIN_BOTH, block_size(format))
    if x.numel():
        _quantize_both[_grid(m, k, side, side)](
            source,
            *plain,
            *columns,
            m,
            k,
            *_row_sizes(plain),
            *_row_sizes(columns),
            ROUNDING=rounding_of(format),
            IS_BFLOAT16=is_bfloat16,
            R=side,
            C=side,
            num_warps=WARPS_BOTH,
        )
    return (*plain, *columns)


def dequantize(codes: Tensor, scales: Tensor, format: Block, k: int, dtype: torch.dtype) -> Tensor:
    """The values (m, k) of plain codes and scales, as `Format.decode` gives them.

    dtype: float32, bfloat16 or float16; a value beyond its range saturates.
    """
    m = codes.shape[0]
    out = torch.empty((m, k), dtype=dtype, device=codes.device)
    target, is_bfloat16 = storable(out)
    rows, columns = TILE
    if out.numel():
        _dequantize[_grid(m, k, rows, columns)](
            codes,
            scales,
            target,
            m,
            k,
            *_row_sizes((codes, scales)),
            SIZE=block_size(format),
            ELEMENT=element_of(format.element),
            HIGHEST=torch.finfo(dtype).max,
            IS_BFLOAT16=is_bfloat16,
            R=rows,
            C=columns,
            num_warps=WARPS,
        )
    return out
