"""Pass: an RMS norm spelt as pow, mean, add, rsqrt, mul becomes one op."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from quire.graph.rewrite import arguments, find, insert, replace

aten = torch.ops.aten


def fuse_rms_norm(graph: GraphModule) -> None:
    """Replace `weight * (x * rsqrt(mean(x**2, -1) + epsilon))`, with or without casts of dtype."""
    for root in find(graph, aten.rsqrt.default):
        match = _match(root)
        if match is not None:
            result, *args = match
            with graph.graph.inserting_before(result):
                replace(result, insert(graph.graph, result, aten.rms_norm.default, *args))


def _match(root: Node) -> tuple[Any, ...] | None:
    """The last node of the norm whose reciprocal root is `root`, and the arguments of the norm."""
    source = _mean_square(root)
    scaled = _only_user(root, aten.mul.Tensor)
    if source is None or scaled is None or source[0] not in scaled.args:
        return None
    x, epsilon = source
    narrowed = _only_user(scaled, aten._to_copy.default)
    if narrowed is not None and x.target is aten._to_copy.default:
        x, scaled = x.args[0], narrowed
    result = _only_user(scaled, aten.mul.Tensor)
    weight = None if result is None else _other(result, scaled)
    if weight is None or weight.op != "get_attr" or weight.meta["val"].dim() != 1:
        return None
    return result, x, [x.meta["val"].shape[-1]], weight, epsilon


def _mean_square(root: Node) -> tuple[Any, float] | None:
    """What is squared, and epsilon, where `root` is of the mean of squares along the last axis."""
    added = _call(arguments(root)[0], aten.add.Tensor)
    mean = added and _call(added[0], aten.mean.dim)
    if not added or not mean or list(mean[1]) != [-1] or mean[2:] != (True,):
        return None
    power = _call(mean[0], aten.pow.Tensor_Scalar)
    product = _call(mean[0], aten.mul.Tensor)
    if (power and power[1] == 2) or (product and product[0] is product[1]):
        return arguments(mean[0])[0], added[1]
    return None


def _call(value: Any, target: Any) -> tuple[Any, ...]:
    """The arguments of `value` if it is a call of `target`, else none."""
    return arguments(value) if isinstance(value, Node) and value.target is target else ()


def _only_user(node: Node, target: Any) -> Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target is target else None


def _other(product: Node, factor: Node) -> Node | None:
    """The other tensor of a product."""
    others = [arg for arg in arguments(product) if isinstance(arg, Node) and arg is not factor]
    return others[0] if others else None
