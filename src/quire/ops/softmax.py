"""Softmax along one axis; `_safe_softmax` gives zeros for a row that is masked throughout."""

import torch
from torch.fx import Node

from quire.formats import Fixed
from quire.ops.base import Axis, Op, Operand, Target, register
from quire.ops.exact_value import Exact, in_float64
from quire.ops.integer_functions import softmax

aten = torch.ops.aten


def _axis(node: Node) -> Axis:
    axis = node.args[1]
    assert isinstance(axis, int)
    return axis


WIDEST = 10
"""Bits of the widest fixed-point scores that a table of exponentials serves."""


def _exact(target: Target, x: Exact, dim: int, *options: object) -> Exact:
    format = x.format
    if not isinstance(format, Fixed) or format.w > WIDEST or x.special is not None:
        return in_float64(target, x, dim, *options)
    assert x.origin is not None
    return softmax(x.codes(format.f), format.w, format.f, dim, x.origin.masked)


SOFTMAX = register(
    Op(
        name="softmax",
        targets=(aten.softmax.int, aten._softmax.default, aten._safe_softmax.default),
        operands=(
            Operand("input", 0, "softmax", _axis),
            Operand("output", None, "softmax", _axis),
        ),
        exact=_exact,
    )
)
