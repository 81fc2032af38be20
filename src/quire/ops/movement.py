"""Ops that only move, copy, join or create values: the table of their aten overloads."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from quire.ops.base import Op, Target, register
from quire.ops.exact_arithmetic import combine, where
from quire.ops.exact_value import Exact, as_exact, in_float64

aten = torch.ops.aten
_CONVERSIONS = (aten._to_copy.default, aten.to.dtype, aten.to.dtype_layout)


def _moved(target: Target, x: Any, *args: Any, **kwargs: Any) -> Any:
    """The movement of every part of the value: exact, and the format of the last cast stays."""
    if isinstance(x, Sequence):
        return _joined(target, list(x), *args, **kwargs)
    example = target(x.limbs[0], *args, **kwargs)
    if isinstance(example, Tensor):
        return x.move(lambda t: target(t, *args, **kwargs))
    return [x.move(lambda t, k=k: target(t, *args, **kwargs)[k]) for k in range(len(example))]


def _joined(target: Target, values: list[Any], *args: Any, **kwargs: Any) -> Any:
    if target is operator.getitem:
        return values[args[0]]
    exact = [as_exact(value) for value in values]
    return combine(lambda parts: target(parts, *args, **kwargs), exact)


def _padded(target: Target, x: Exact, pad: list[int], value: float = 0) -> Exact:
    inside = target(torch.ones_like(x.limbs[0], dtype=torch.bool), pad, False)
    return where(inside, x.move(lambda t: target(t, pad, 0)), as_exact(value))


def _converted(target: Target, x: Exact, *args: Any, **kwargs: Any) -> Any:
    """To another floating-point type: no rounding, since only casts round."""
    types = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
    if all(dtype.is_floating_point for dtype in types):
        return x
    return in_float64(target, x, *args, **kwargs)


_SPECIAL: dict[Target, Callable[..., Any]] = {
    aten.constant_pad_nd.default: _padded,
    aten.as_strided.default: in_float64,
    **dict.fromkeys(_CONVERSIONS, _converted),
}


def _exact(target: Target, *args: Any, **kwargs: Any) -> Any:
    return _SPECIAL.get(target, _moved)(target, *args, **kwargs)


MOVEMENT = register(
    Op(
        name="movement",
        targets=(
            operator.getitem,
            aten._reshape_alias.default,
            aten._to_copy.default,
            aten._unsafe_view.default,
            aten.alias.default,
            aten.as_strided.default,
            aten.cat.default,
            aten.chunk.default,
            aten.clone.default,
            aten.constant_pad_nd.default,
            aten.contiguous.default,
            aten.detach.default,
            aten.expand.default,
            aten.flatten.using_ints,
            aten.flip.default,
            aten.gather.default,
            aten.index.Tensor,
            aten.index_select.default,
            aten.lift_fresh_copy.default,
            aten.movedim.int,
            aten.narrow.default,
            aten.permute.default,
            aten.pixel_shuffle.default,
            aten.pixel_unshuffle.default,
            aten.repeat.default,
            aten.repeat_interleave.self_int,
            aten.reshape.default,
            aten.roll.default,
            aten.select.int,
            aten.slice.Tensor,
            aten.split.Tensor,
            aten.split_with_sizes.default,
            aten.squeeze.default,
            aten.squeeze.dim,
            aten.squeeze.dims,
            aten.stack.default,
            aten.t.default,
            aten.to.dtype,
            aten.to.dtype_layout,
            aten.transpose.int,
            aten.tril.default,
            aten.triu.default,
            aten.unbind.int,
            aten.unflatten.int,
            aten.unfold.default,
            aten.unsqueeze.default,
            aten.view.default,
        ),
        exact=_exact,
    )
)
CREATION = register(
    Op(
        name="creation",
        targets=(
            aten.arange.default,
            aten.arange.start,
            aten.arange.start_step,
            aten.empty_like.default,
            aten.full.default,
            aten.full_like.default,
            aten.new_full.default,
            aten.new_ones.default,
            aten.new_zeros.default,
            aten.ones.default,
            aten.ones_like.default,
            aten.scalar_tensor.default,
            aten.zeros.default,
            aten.zeros_like.default,
        ),
    )
)
