"""Pooling, and means over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import torch
from torch import Tensor

from quire.ops.base import Op, Operand, Target, register
from quire.ops.exact_arithmetic import divide, maximum, mean, sum_over, sums, where
from quire.ops.exact_value import Exact, as_exact, in_float64

aten = torch.ops.aten
_INPUT = (Operand("input", 0, "activation"),)


def _max_pool(target: Target, x: Exact, kernel: Sequence[int], *options: Any) -> Exact:
    """One axis after the other, as the maximum of shifted and strided copies."""
    rank = len(kernel)
    stride, padding, dilation, _ = (*options, *((), 0, 1, False)[len(options) :])
    sizes = target(x.limbs[0].double(), kernel, *options).shape[-rank:]
    steps, before, gaps = (_per_axis(v, rank) for v in (stride or kernel, padding, dilation))
    for axis in range(-rank, 0):
        window = (kernel[axis], steps[axis], before[axis], gaps[axis])
        x = _max_along(x, axis % x.ndim, sizes[axis], *window)
    return x


def _max_along(
    x: Exact, axis: int, size: int, width: int, step: int, before: int, gap: int
) -> Exact:
    reach = (size - 1) * step + 1
    after = max(0, reach + gap * (width - 1) - before - x.shape[axis])
    x = _padded_below(x, axis, before, after)

    def copy(t: Tensor, k: int) -> Tensor:
        return t.narrow(axis, gap * k, reach)[(slice(None),) * axis + (slice(None, None, step),)]

    return reduce(maximum, [x.move(lambda t, k=k: copy(t, k)) for k in range(width)])


def _padded_below(x: Exact, axis: int, before: int, after: int) -> Exact:
    """x with minus infinity on both sides of an axis."""
    pad = [0, 0] * (x.ndim - 1 - axis) + [before, after]
    inside = torch.constant_pad_nd(torch.ones_like(x.limbs[0], dtype=torch.bool), pad, False)
    return where(inside, x.move(lambda t: torch.constant_pad_nd(t, pad)), as_exact(float("-inf")))


def _per_axis(value: int | Sequence[int], rank: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * rank if len(values) == 1 else values


def _average_pool(target: Target, x: Exact, kernel: Sequence[int], *options: Any) -> Exact:
    def sums_of(t: Tensor) -> Tensor:
        return _pooled_sums(t, kernel, *options[:3])

    ones = torch.ones(1, *x.shape[-len(kernel) :], dtype=torch.float64, device=x.limbs.device)
    counts = (sums_of(ones) / target(ones, kernel, *options)).round().long()
    return divide(sums(sums_of, x, prod(kernel)), counts)


def _pooled_sums(
    t: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
) -> Tensor:
    """The sums over windows: exact for integers, since the division is by one."""
    if len(kernel) == 2:
        return aten.avg_pool2d(t, kernel, stride, padding, ceil_mode, True, 1)
    shape = ([1, *kernel], [1, *(stride or kernel)], [0, *padding])
    return aten.avg_pool2d(t.unsqueeze(-2), *shape, ceil_mode, True, 1).squeeze(-2)


def _adaptive_average_pool(target: Target, x: Exact, output: Sequence[int]) -> Exact:
    sizes = x.shape[-len(output) :]
    bins = [_bins(n, size).to(x.limbs.device) for n, size in zip(sizes, output, strict=True)]

    def sums_of(t: Tensor) -> Tensor:
        t = t @ bins[-1].T
        return t if len(bins) == 1 else bins[0] @ t

    counts = sums_of(torch.ones(1, *sizes, dtype=torch.float64, device=x.limbs.device)).long()
    return divide(sums(sums_of, x, prod(sizes)), counts)


def _bins(n: int, size: int) -> Tensor:
    """(size, n), 1 where an input belongs to an output, as `F.adaptive_avg_pool1d` divides them."""
    i = torch.arange(size).unsqueeze(1)
    first, end = i * n // size, -(-(i + 1) * n // size)
    at = torch.arange(n)
    return ((first <= at) & (at < end)).double()


def _mean(target: Target, x: Exact, *args: Any, **options: Any) -> Exact:
    return mean(x, *_dimensions(args))


def _sum(target: Target, x: Exact, *args: Any, **options: Any) -> Exact:
    return sum_over(x, *_dimensions(args))


def _dimensions(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The dimensions and `keepdim`; the overload without dimensions has neither."""
    return args[:2] if args and not isinstance(args[0], torch.dtype) else ()


_EXACT_MAX = (aten.max_pool1d.default, aten.max_pool2d.default)


def _exact_max(target: Target, *args: Any, **kwargs: Any) -> Any:
    """Adaptive pooling gives the maxima of the values rounded to fp32."""
    function: Callable[..., Any] = _max_pool if target in _EXACT_MAX else in_float64
    return function(target, *args, **kwargs)


MAX_POOL = register(
    Op(
        name="max_pool",
        targets=(
            aten.max_pool1d.default,
            aten.max_pool2d.default,
            aten.adaptive_max_pool1d.default,
            aten.adaptive_max_pool2d.default,
        ),
        exact=_exact_max,
    )
)
AVERAGE_POOL = register(
    Op(
        name="average_pool",
        targets=(aten.avg_pool1d.default, aten.avg_pool2d.default),
        operands=_INPUT,
        exact=_average_pool,
    )
)
ADAPTIVE_AVERAGE_POOL = register(
    Op(
        name="adaptive_average_pool",
        targets=(aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default),
        operands=_INPUT,
        exact=_adaptive_average_pool,
    )
)
MEAN = register(Op("mean", (aten.mean.dim, aten.mean.default), _INPUT, exact=_mean))
SUM = register(Op("sum", (aten.sum.dim_IntList, aten.sum.default), _INPUT, exact=_sum))
