"""`Layer`: a weight that is corrected, its cast, and what calibration says of its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from quire.formats import Block, Format
from quire.formats.layout import WHOLE_AXIS, WHOLE_TENSOR
from quire.precision.cast import StaticScale


@dataclass(frozen=True)
class Layer:
    """A weight as the rows of products.

    format, scale: those of its entry; the blocks run along the rows.
    weight: (groups, rows, length), as it was trained.
    moment: (groups, length, length), the mean of x x' over the inputs x, float64.
    """

    format: Format
    scale: StaticScale
    weight: Tensor
    moment: Tensor

    def cast(self, weight: Tensor) -> Tensor:
        """What the graph computes with in the place of `weight`."""
        return self.format.quantize(weight + 0.0, -1, scale=self.scale)

    def errors(self, weight: Tensor) -> Tensor:
        """The mean squared error of each row's product under the cast of a weight, float64."""
        error = self.cast(weight).double() - self.weight.double()
        return ((error @ self.moment) * error).sum(-1)

    def better(self, new: Tensor, old: Tensor) -> Tensor:
        """Row by row the weight whose product has the smaller error, `old` where they are equal.

        All rows or none where one scale serves them all.
        """
        after, before = self.errors(new), self.errors(old)
        if self.is_coupled:
            return new if float(after.sum()) < float(before.sum()) else old
        return torch.where((after < before)[..., None], new, old)

    @property
    def block(self) -> Block | None:
        """The format, where the cast finds its scales in the data."""
        return self.format if isinstance(self.format, Block) and self.scale is None else None

    @property
    def is_one_block(self) -> bool:
        """Whether one scale, found in the data, serves all rows."""
        return self.block is not None and self.block.size == WHOLE_TENSOR

    @property
    def is_coupled(self) -> bool:
        """Whether the cast of a row depends on the others."""
        below = self.block is not None and self.block.tensor_scale is not None
        return self.is_one_block or below

    @cached_property
    def size(self) -> int:
        """How many numbers of a row share a scale; one where the cast finds none in the data."""
        length = self.weight.shape[-1]
        if self.block is None:
            return 1
        size = self.block.size
        return length if size in (WHOLE_AXIS, WHOLE_TENSOR) else min(int(size), length)

    def by_block(self, values: Tensor) -> Tensor:
        """Values of the weight's shape as (groups, rows, blocks, size), zeros after the last."""
        length = self.weight.shape[-1]
        return pad(values, (0, -length % self.size)).unflatten(-1, (-1, self.size))

    def from_blocks(self, values: Tensor) -> Tensor:
        """The inverse of `by_block`."""
        return values.flatten(-2)[..., : self.weight.shape[-1]]
