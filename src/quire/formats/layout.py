"""How a tensor is seen as blocks along an axis, and put together again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from quire.formats.carrier import carrier_of

WHOLE_AXIS = "all"
WHOLE_TENSOR = "tensor"
# Rows that a CPU reduces at a time: down a longer column each row is on a memory page of its own.
_ROWS = 16


@dataclass(frozen=True)
class Blocks:
    """A tensor of a carrier dtype seen as blocks of one length.

    dims: the dimensions that one block spans. split_axis: the axis that was split in two (blocks,
    values of a block), or None where a block is a whole axis or tensor. length: the axis before
    that, without the zeros that pad the last block.
    """

    values: Tensor
    dims: tuple[int, ...]
    split_axis: int | None
    length: int

    def counts(self) -> Tensor | int:
        """True values in each block; a tensor broadcasts against the scales."""
        axis = self.split_axis
        if axis is None:
            return self.values.numel() if len(self.dims) > 1 else self.length
        blocks, size = self.values.shape[axis : axis + 2]
        if blocks * size == self.length:
            return size
        first = torch.arange(blocks, device=self.values.device) * size
        return (
            (self.length - first).clamp(max=size).reshape(-1, *[1] * (self.values.ndim - axis - 1))
        )

    @property
    def is_row(self) -> bool:
        """Whether a block is all of the last axis."""
        return self.split_axis is None and self.dims == (self.values.ndim - 1,)

    def largest(self) -> Tensor:
        """max |x| over each block, dimensions kept; NaN where a block holds NaN."""
        if not self._by_bits:
            return self._greatest(self.values.abs())
        c = carrier_of(self.values)
        return c.to_float(self._greatest(c.to_bits(self.values) & c.magnitude_bits))

    def reach(self) -> tuple[Tensor, Tensor]:
        """max(0, max -x) and max(0, max x) over each block; NaN in one where a block holds NaN."""
        if not self._by_bits:
            below, above = self._greatest(-self.values), self._greatest(self.values)
            return below.clamp(min=0), above.clamp(min=0)
        c = carrier_of(self.values)
        bits = c.to_bits(self.values)
        below, above = self._greatest(bits ^ c.sign_bit), self._greatest(bits)
        return c.to_float(below.clamp(min=0)), c.to_float(above.clamp(min=0))

    @property
    def _by_bits(self) -> bool:
        """Whether maxima are taken of integers: the bits of floats, NaN above Inf.

        They need no care for NaN. In Inductor's C++ the last step of an integer maximum within a
        vector is a loop over its lanes, which takes longer than all else.
        """
        return self.values.is_cuda

    def _greatest(self, values: Tensor) -> Tensor:
        """The maximum over each block, dimensions kept."""
        axis = self.dims[0]
        length, strided = values.shape[axis], len(self.dims) == 1 and axis < values.ndim - 1
        if strided and not values.is_cuda and length >= 4 * _ROWS and length % _ROWS == 0:
            values = values.unflatten(axis, (-1, _ROWS)).amax(axis + 1)
        return values.amax(self.dims, keepdim=True)

    def joined(self, values: Tensor) -> Tensor:
        """Values in the shape of the blocks, back in the shape of the tensor."""
        axis = self.split_axis
        if axis is None:
            return values
        joined = values.flatten(axis, axis + 1)
        padded = joined.shape[axis] != self.length
        return joined.narrow(axis, 0, self.length) if padded else joined

    def stored(self, scales: Tensor) -> Tensor:
        """Scales with a block's dimensions kept as 1, in the shape in which they are stored."""
        if len(self.dims) > 1:
            return scales.reshape(())
        return scales if self.split_axis is None else scales.squeeze(self.split_axis + 1)

    def expanded(self, scales: Tensor) -> Tensor:
        """Stored scales, shaped to broadcast against the blocks."""
        return scales if self.split_axis is None else scales.unsqueeze(self.split_axis + 1)


def split_blocks(x: Tensor, axis: int, size: int | str) -> list[Blocks]:
    """`x` (at least 1-d) as blocks along `axis`.

    A short last block is a part of its own on a CPU, where Inductor drops the tail of a loop that
    divides by the size of a block (pytorch issue 195582), and is padded on a GPU, where one part
    makes one kernel.
    """
    n = x.shape[axis]
    if size == WHOLE_TENSOR:
        return [Blocks(x, tuple(range(x.ndim)), None, n)]
    if size == WHOLE_AXIS:
        return [Blocks(x, (axis,), None, n)]
    size = min(int(size), n)
    ragged = n % size
    if ragged and x.is_cuda:
        padded = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [0, size - ragged])
        return [_unflattened(padded, axis, size, n)]
    parts = x.split([n - ragged, ragged], axis) if ragged else [x]
    return [
        _unflattened(part, axis, min(size, part.shape[axis]), part.shape[axis]) for part in parts
    ]


def _unflattened(x: Tensor, axis: int, size: int, length: int) -> Blocks:
    return Blocks(x.unflatten(axis, (-1, size)), (axis + 1,), axis, length)
