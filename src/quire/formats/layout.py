"""How a tensor is seen as blocks along an axis, and put together again."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

WHOLE_AXIS = "all"
WHOLE_TENSOR = "tensor"


@dataclass(frozen=True)
class Blocks:
    """A tensor of a carrier dtype seen as blocks of one length.

    dims: the dimensions that one block spans. split_axis: the axis that was split in two (blocks,
    values of a block), or None where a block is a whole axis or tensor.
    """

    values: Tensor
    dims: tuple[int, ...]
    split_axis: int | None

    @property
    def count(self) -> int:
        """Values in one block."""
        sizes = [self.values.shape[d] for d in self.dims]
        return sizes[0] if len(sizes) == 1 else self.values.numel()

    def largest(self) -> Tensor:
        """max |x| over each block, dimensions kept; NaN where a block holds NaN."""
        return self.values.abs().amax(self.dims, keepdim=True)

    def joined(self, values: Tensor) -> Tensor:
        """Values in the shape of the blocks, back in the shape of the tensor."""
        axis = self.split_axis
        return values if axis is None else values.flatten(axis, axis + 1)

    def stored(self, scales: Tensor) -> Tensor:
        """Scales with a block's dimensions kept as 1, in the shape in which they are stored."""
        if len(self.dims) > 1:
            return scales.reshape(())
        return scales if self.split_axis is None else scales.squeeze(self.split_axis + 1)

    def expanded(self, scales: Tensor) -> Tensor:
        """Stored scales, shaped to broadcast against the blocks."""
        return scales if self.split_axis is None else scales.unsqueeze(self.split_axis + 1)


def split_blocks(x: Tensor, axis: int, size: int | str) -> list[Blocks]:
    """`x` (at least 1-d) as blocks along `axis`; a short last block makes a second part.

    Parts of their own, and no padding: the work and the memory of a pad are saved, and compilers
    are spared an index that divides by the size of a block that does not divide the axis.
    """
    if size == WHOLE_TENSOR:
        return [Blocks(x, tuple(range(x.ndim)), None)]
    if size == WHOLE_AXIS:
        return [Blocks(x, (axis,), None)]
    size, n = int(size), x.shape[axis]
    whole = n - n % size
    parts = [x.narrow(axis, 0, whole), x.narrow(axis, whole, n - whole)] if 0 < whole < n else [x]
    return [
        Blocks(p.unflatten(axis, (-1, min(size, p.shape[axis]))), (axis + 1,), axis) for p in parts
    ]
