"""The straight-through gradient of rounding, zero where a value saturated.

Bengio et al., "Estimating or Propagating Gradients Through Stochastic Neurons", 2013; the mask is
that of quantization-aware training since Hubara et al., 2016.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quire.formats.base import Format, StaticScale


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, fmt: Format, axis: int, scale: StaticScale, mask: bool
    ) -> Tensor:
        if mask:
            ctx.save_for_backward(x)
        ctx.fmt, ctx.axis, ctx.scale, ctx.mask = fmt, axis, scale, mask
        return fmt.rounded(x, axis, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        if ctx.mask:
            (x,) = ctx.saved_tensors
            grad = torch.where(ctx.fmt.saturated(x, ctx.axis, ctx.scale), 0.0, grad)
        return grad, None, None, None, None


def straight_through(
    fmt: Format, x: Tensor, axis: int, scale: StaticScale, mask_saturated: bool
) -> Tensor:
    """`fmt.rounded(x, axis, scale)` with the gradient of the identity, masked if asked."""
    return _StraightThrough.apply(x, fmt, axis, scale, mask_saturated)  # type: ignore[no-any-return]
