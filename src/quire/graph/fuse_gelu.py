"""Pass: a GELU spelt out with tanh, as GPT-2 does, becomes one op."""

from __future__ import annotations

from math import isclose, pi, sqrt
from typing import Any

import torch
from torch.fx import GraphModule, Node

from quire.graph.rewrite import arguments, find, insert, replace

aten = torch.ops.aten


def fuse_gelu(graph: GraphModule) -> None:
    """Replace `0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))`."""
    for root in find(graph, aten.tanh.default):
        x = _inner(arguments(root)[0])
        result = None if x is None else _outer(root, x)
        if result is not None:
            with graph.graph.inserting_before(result):
                call = insert(graph.graph, result, aten.gelu.default, x, approximate="tanh")
                replace(result, call)


def _inner(value: Any) -> Any:
    """x where `value` is `sqrt(2 / pi) * (x + 0.044715 * x**3)`, else None."""
    total = _scaled(value, sqrt(2 / pi))
    if total is None or total.target is not aten.add.Tensor:
        return None
    x, cubic = arguments(total)[:2]
    power = _scaled(cubic, 0.044715)
    if power is None or power.target is not aten.pow.Tensor_Scalar:
        return None
    return x if arguments(power) == (x, 3) else None


def _outer(root: Node, x: Node) -> Node | None:
    """The product `0.5 * x * (1 + root)`, if that is the one use of `root`."""
    for added in root.users:
        if added.target is not aten.add.Tensor or arguments(added) != (root, 1.0):
            continue
        for product in added.users:
            halves = [_scaled(arg, 0.5) for arg in arguments(product)]
            if product.target is aten.mul.Tensor and any(half is x for half in halves):
                return product
    return None


def _scaled(value: Any, factor: float) -> Any:
    """The tensor that `value` multiplies by the constant `factor`, else None."""
    if not isinstance(value, Node) or value.target is not aten.mul.Tensor:
        return None
    x, constant = arguments(value)
    is_factor = isinstance(constant, float) and isclose(constant, factor, rel_tol=1e-6)
    return x if is_factor else None
