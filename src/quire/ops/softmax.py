"""Softmax along one axis; `_safe_softmax` gives zeros for a row that is masked throughout."""

import math
from typing import Any

import torch
from torch.fx import Node

from quire.formats import Fixed, UFixed
from quire.ops.base import Axis, Op, Operand, Target, register
from quire.ops.exact_value import Exact, in_float64
from quire.ops.integer_functions import TABLE_BITS, softmax

aten = torch.ops.aten


def _axis(node: Node) -> Axis:
    axis = node.args[1]
    assert isinstance(axis, int)
    return axis


WIDEST = 10
"""Bits of the widest fixed-point scores that a table of exponentials serves."""


def _exact(
    target: Target, x: Exact, dim: int, *options: object, table: UFixed | None = None
) -> Exact:
    format, special = x.format, x.special
    masked = None if special is None else special == -math.inf
    is_other = special is not None and bool(((special != 0) & (special != -math.inf)).any())
    if not isinstance(format, Fixed) or format.w > WIDEST or is_other:
        return in_float64(target, x, dim, *options)
    p = TABLE_BITS if table is None else table.f
    return softmax(x.codes(format.f), format.w, format.f, dim, masked, p)


SAFE = aten._safe_softmax.default
"""The softmax that has zeros where a row is minus infinity throughout."""


def safe_options(target: object, dim: int, option: Any = None) -> tuple[int, Any]:
    """The axis and the dtype for `SAFE` in the place of a call of `target` with these options."""
    if target is aten._softmax.default:  # its option says whether fp16 becomes fp32
        return dim, torch.float32 if option else None
    return dim, option


SOFTMAX = register(
    Op(
        name="softmax",
        targets=(aten.softmax.int, aten._softmax.default, aten._safe_softmax.default),
        operands=(
            Operand("input", 0, "softmax", _axis),
            Operand("table", None, "table"),
            Operand("output", None, "softmax", _axis),
        ),
        exact=_exact,
    )
)
