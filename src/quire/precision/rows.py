"""Rows of whole bytes: how a tensor in codes lies in a file.

A row is the elements along the tensor's block axis (flattened, where there are several). The codes
of each row start on a byte, lowest bit first, and so do its scales and zero points.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from quire.formats import Encoded, Format
from quire.formats.base import code_dtype
from quire.formats.packing import code_fields, pack_bits, unpack_bits
from quire.precision.cast import Axis, StaticScale, as_blocks

Shape = tuple[int, ...]


def flatten_shape(shape: Shape, axis: Axis) -> tuple[Shape, int]:
    """The shape of `as_blocks(x, axis)`, and its axis."""
    if isinstance(axis, int):
        return shape, axis % max(len(shape), 1)
    first, last = axis[0] % len(shape), axis[-1] % len(shape)
    return (*shape[:first], prod(shape[first : last + 1]), *shape[last + 1 :]), first


def layout(format: Format, shape: Shape, axis: Axis) -> dict[str, Shape]:
    """{part: (rows, bytes)}: the uint8 tensors that hold a tensor of `shape` in codes.

    The parts are codes, scales, zero_points and tensor_scale, as far as the format has them.
    """
    flat, axis = flatten_shape(shape, axis)
    return {
        name: (_row_count(field, axis), -(-_row_length(field, axis) * bits // 8))
        for name, bits, field in code_fields(format, flat, axis)
    }


def to_rows(format: Format, x: Tensor, axis: Axis, scale: StaticScale = None) -> dict[str, Tensor]:
    """The parts of `layout` for the codes of `x`, on the CPU."""
    flat, axis = as_blocks(x, axis)
    encoded = format.encode(flat, axis, scale=scale)
    axis %= max(flat.ndim, 1)
    parts: dict[str, Tensor] = {}
    for name, bits, field in code_fields(format, tuple(flat.shape), axis):
        codes: Tensor = getattr(encoded, name)
        codes = codes.view(torch.int32) if codes.is_floating_point() else codes
        rows = codes.movedim(axis, -1) if field else codes
        parts[name] = pack_bits(rows.reshape(-1, _row_length(field, axis)), bits).cpu().contiguous()
    return parts


def from_rows(
    format: Format, parts: dict[str, Tensor], shape: Shape, axis: Axis, dtype: torch.dtype
) -> Tensor:
    """The values of a tensor of `shape` from the parts that `to_rows` gave."""
    flat, axis = flatten_shape(shape, axis)
    fields: dict[str, Tensor | None] = dict.fromkeys(("scales", "zero_points", "tensor_scale"))
    for name, bits, field in code_fields(format, flat, axis):
        codes = unpack_bits(parts[name], bits, _row_length(field, axis)).to(code_dtype(bits))
        moved = (*field[:axis], *field[axis + 1 :], *field[axis : axis + 1])
        fields[name] = codes.reshape(moved).movedim(-1, axis) if field else codes.reshape(())
    tensor_scale = fields["tensor_scale"]
    if tensor_scale is not None:
        fields["tensor_scale"] = tensor_scale.to(torch.int32).view(torch.float32)
    encoded = Encoded(axis=axis if format.is_block else 0, dtype=dtype, **fields)  # type: ignore[arg-type]
    return format.decode(encoded).reshape(shape)


def _row_length(shape: Shape, axis: int) -> int:
    return shape[axis] if shape else 1


def _row_count(shape: Shape, axis: int) -> int:
    return prod(shape[:axis] + shape[axis + 1 :])
