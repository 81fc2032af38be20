"""Values in the unit of their format's grid: over the scale of their block, by its zero point."""

from torch import Tensor

from quire.formats import Block, Format, Scalar


def to_grid(format: Format, x: Tensor, axis: int = -1) -> Tensor:
    """`x` in float64; with blocks over the scale of its block, and moved by its zero point.

    Blocks run along `axis`. What a scale of zero makes infinite or NaN is zero.
    """
    x = x.detach().cpu().double()
    if not isinstance(format, Block):
        return x
    encoded = format.encode(x.float(), axis)
    assert encoded.scales is not None
    scales = format.scale.values_of(encoded.scales.long()).double()
    if encoded.tensor_scale is not None:
        scales = scales * encoded.tensor_scale.double()
    unscaled = x / _spread(format, scales, x, axis)
    if encoded.zero_points is not None:
        zeros = format.element.values_of(encoded.zero_points.long()).double()
        unscaled = unscaled + _spread(format, zeros, x, axis)
    return unscaled.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def grid(format: Format, widest: int) -> tuple[float, ...]:
    """The finite values of the format's elements; none for elements of more than `widest` bits."""
    scalar = format.element if isinstance(format, Block) else format
    if not isinstance(scalar, Scalar) or scalar.bits > widest:
        return ()
    return tuple(value for value in scalar.values().tolist() if abs(value) < float("inf"))


def _spread(format: Block, per_block: Tensor, x: Tensor, axis: int) -> Tensor:
    """One number a block as one number an element."""
    if not isinstance(format.size, int) or x.ndim == 0:
        return per_block
    return per_block.repeat_interleave(format.size, axis).narrow(axis, 0, x.shape[axis])
