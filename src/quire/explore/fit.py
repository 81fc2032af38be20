"""The integer of a scalar format (fraction bits, a bias) that suits a tensor best."""

import math
from collections.abc import Sequence

from torch import Tensor

from quire.errors import StudyError
from quire.formats import Format, parse
from quire.formats.base import Scalar

SAMPLE = 1 << 16  # elements a tensor: the error of a mean over these is far below a step's effect


def fit_integer(template: str, tensors: Sequence[Tensor]) -> int:
    """The integer that, put for `{}` in `template`, gives the least squared error on `tensors`.

    template: a scalar format whose range halves as the integer grows by one, `fixed(8,{})`.
    The search starts where the largest magnitude is just covered, and steps while the error falls.
    """
    samples = [_sample(tensor.detach()) for tensor in tensors]
    largest = max((float(x.abs().max()) for x in samples if x.numel()), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return 0
    start = math.floor(math.log2(_highest(template) / largest))

    def error(value: int) -> float:
        return squared_error(parse(template.format(value)), samples)

    best, least = start, error(start)
    for step in (1, -1):
        while (now := error(best + step)) < least:
            best, least = best + step, now
    return best


def squared_error(fmt: Format, tensors: Sequence[Tensor], axis: int = -1) -> float:
    """The sum of (x - quantize(x))^2 over `tensors`."""
    return sum(float((fmt.quantize(x, axis) - x).double().square().sum()) for x in tensors)


def _highest(template: str) -> float:
    fmt = parse(template.format(0))
    if not isinstance(fmt, Scalar):
        raise StudyError(f"{fmt}: a block finds its scale in the data; there is nothing to fit")
    return fmt.highest


def _sample(x: Tensor) -> Tensor:
    flat = x.float().flatten()
    return flat[:: max(1, math.ceil(flat.numel() / SAMPLE))] if flat.is_floating_point() else flat
