"""Rows of packed codes, and floating-point tiles, to and from memory in Triton.

Codes of 4, 6 or 8 bits lie in their rows lowest bits first: two codes fill one byte, four codes of
6 bits three bytes (`quire.software.mx.layout`).
"""

# pyright: basic, reportGeneralTypeIssues=false
# Triton's functions have types of their own, which Python's cannot say.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from quire.software.kernels.triton.arithmetic import bfloat16_bits


@triton.jit
def load_codes(row, mask, column, row_bytes, BITS: tl.constexpr, COLUMNS: tl.constexpr):
    """Codes (rows, COLUMNS) from `column` on, int32; zero beyond the row and where masked out.

    row: pointers (rows, 1) to the first byte of each row; mask: (rows, 1).
    column: a multiple of 4. row_bytes: of a whole row.
    """
    if BITS == 8:
        k = (column + tl.arange(0, COLUMNS))[None, :]
        return _load_bytes(row, mask, k, row_bytes)
    elif BITS == 4:
        k = (column // 2 + tl.arange(0, COLUMNS // 2))[None, :]
        byte = _load_bytes(row, mask, k, row_bytes)
        return _joined(byte & 15, byte >> 4)
    else:
        k = ((column // 4 + tl.arange(0, COLUMNS // 4)) * 3)[None, :]
        first = _load_bytes(row, mask, k, row_bytes)
        second = _load_bytes(row, mask, k + 1, row_bytes)
        third = _load_bytes(row, mask, k + 2, row_bytes)
        even = _joined(first & 63, ((second >> 4) | (third << 4)) & 63)
        odd = _joined(((first >> 6) | (second << 2)) & 63, third >> 2)
        return _joined(even, odd)


@triton.jit
def _load_bytes(row, mask, offset, row_bytes):
    return tl.load(row + offset, mask=mask & (offset < row_bytes), other=0).to(tl.int32)


@triton.jit
def _joined(a, b):
    """Columns of a and b in turns: (r, n) and (r, n) to (r, 2 n)."""
    return tl.reshape(tl.join(a, b), (a.shape[0], 2 * a.shape[1]))


@triton.jit
def store_codes(row, mask, column, row_bytes, codes, BITS: tl.constexpr):
    """The inverse of `load_codes`; the codes beyond the end of a row must be zero."""
    COLUMNS: tl.constexpr = codes.shape[1]
    if BITS == 8:
        k = (column + tl.arange(0, COLUMNS))[None, :]
        _store_bytes(row, mask, k, row_bytes, codes)
    elif BITS == 4:
        low, high = _parted(codes)
        k = (column // 2 + tl.arange(0, COLUMNS // 2))[None, :]
        _store_bytes(row, mask, k, row_bytes, low | (high << 4))
    else:
        even, odd = _parted(codes)
        c0, c2 = _parted(even)
        c1, c3 = _parted(odd)
        k = ((column // 4 + tl.arange(0, COLUMNS // 4)) * 3)[None, :]
        _store_bytes(row, mask, k, row_bytes, c0 | (c1 << 6))
        _store_bytes(row, mask, k + 1, row_bytes, (c1 >> 2) | (c2 << 4))
        _store_bytes(row, mask, k + 2, row_bytes, (c2 >> 4) | (c3 << 2))


@triton.jit
def _store_bytes(row, mask, offset, row_bytes, value):
    tl.store(row + offset, (value & 255).to(tl.uint8), mask=mask & (offset < row_bytes))


@triton.jit
def _parted(codes):
    """Even and odd columns."""
    return tl.split(tl.reshape(codes, (codes.shape[0], codes.shape[1] // 2, 2)))


@triton.jit
def store_float(pointer, value, mask, IS_BFLOAT16: tl.constexpr):
    """A float32 rounded to the type of the pointer; a bfloat16 one is handed over as int16."""
    if IS_BFLOAT16:
        tl.store(pointer, bfloat16_bits(value), mask=mask)
    else:
        tl.store(pointer, value.to(pointer.dtype.element_ty), mask=mask)


def storable(x: Tensor) -> tuple[Tensor, bool]:
    """A tensor for `store_float`, and whether it is one of bfloat16."""
    is_bfloat16 = x.dtype == torch.bfloat16
    return (x.view(torch.int16) if is_bfloat16 else x), is_bfloat16


@triton.jit
def load_float(pointer, mask, IS_BFLOAT16: tl.constexpr):
    """A tile in float32, zero where masked out; a bfloat16 one is handed over as int16."""
    value = tl.load(pointer, mask=mask, other=0)
    if IS_BFLOAT16:
        return (value.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        return value.to(tl.float32)
