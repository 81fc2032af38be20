"""Static scales that suit observed values, and what observed values have to be."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from quire.errors import PlanError
from quire.formats import Block, Format, Pow2


def static_scale(format: Format, values: Tensor) -> float | tuple[float, float]:
    """The static scale of a block format for values that share one block; 1 as the largest of
    them where all are zero."""
    if not isinstance(format, Block):
        raise PlanError(f"{format} has no scale to calibrate")
    encoded = replace(format, size="tensor").encode(informative(without_nan(values)).float())
    assert encoded.scales is not None
    scale = float(format.scale.values_of(encoded.scales.long()))
    if encoded.zero_points is not None:
        return scale, float(format.element.values_of(encoded.zero_points.long()))
    return scale if encoded.tensor_scale is None else (scale, float(encoded.tensor_scale))


def has_real_scale(format: Format) -> bool:
    """Whether a format has scales that are real numbers, of which one can serve all blocks."""
    return isinstance(format, Block) and not isinstance(format.scale, Pow2)


def without_nan(x: Tensor) -> Tensor:
    """The values of a sample; PlanError if NaN is among them."""
    if x.isnan().any():
        raise PlanError(
            "the observed values hold NaN, which NaN or infinity in the calibration data or in the"
            " weights gives: clean them"
        )
    return x


def informative(x: Tensor) -> Tensor:
    """The values of a sample; where all are zero, which says nothing of a scale, a 1 instead."""
    return x if bool(x.any()) else x.new_ones(1)
