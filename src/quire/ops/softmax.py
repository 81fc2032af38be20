"""Softmax along one axis; `_safe_softmax` gives zeros for a row that is masked throughout."""

import torch
from torch.fx import Node

from quire.ops.base import Axis, Op, Operand, register

aten = torch.ops.aten


def _axis(node: Node) -> Axis:
    axis = node.args[1]
    assert isinstance(axis, int)
    return axis


SOFTMAX = register(
    Op(
        name="softmax",
        targets=(aten.softmax.int, aten._softmax.default, aten._safe_softmax.default),
        operands=(
            Operand("input", 0, "softmax", _axis),
            Operand("output", None, "softmax", _axis),
        ),
    )
)
