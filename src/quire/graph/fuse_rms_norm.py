"""Pass: an RMS norm spelt as pow, mean, add, rsqrt, mul becomes one op."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from quire.graph.rewrite import find, insert, replace

aten = torch.ops.aten


def fuse_rms_norm(graph: GraphModule) -> None:
    """Replace `weight * (x * rsqrt(mean(x**2, -1) + epsilon))`, with or without casts of dtype."""
    for root in find(graph, aten.rsqrt.default):
        match = _match(root)
        if match is None:
            continue
        x, weight, epsilon, result = match
        shape = [x.meta["val"].shape[-1]]
        with graph.graph.inserting_before(result):
            replace(result, insert(graph.graph, result, aten.rms_norm.default, x, shape, weight, epsilon))


def _match(root: Node) -> tuple[Node, Node, float, Node] | None:
    """Input, weight, epsilon and result of the norm whose reciprocal root is `root`."""
    added = root.args[0]
    if not _is_call(added, aten.add.Tensor) or not isinstance(added.args[1], float):
        return None
    mean = added.args[0]
    if not _is_call(mean, aten.mean.dim) or list(mean.args[1]) != [-1] or mean.args[2:] != (True,):
        return None
    x = _squared(mean.args[0])
    scaled = _only_user(root, aten.mul.Tensor)
    if x is None or scaled is None or x not in scaled.args:
        return None
    narrowed = _only_user(scaled, aten._to_copy.default)
    if narrowed is not None and _is_call(x, aten._to_copy.default):
        x = x.args[0]
    result = _only_user(narrowed or scaled, aten.mul.Tensor)
    if result is None:
        return None
    (weight,) = [arg for arg in result.args if arg is not (narrowed or scaled)] or [None]
    if not _is_call(weight, None) or weight.op != "get_attr" or weight.meta["val"].dim() != 1:
        return None
    return x, weight, added.args[1], result


def _squared(node: Any) -> Any:
    if _is_call(node, aten.pow.Tensor_Scalar) and node.args[1] == 2:
        return node.args[0]
    if _is_call(node, aten.mul.Tensor) and node.args[0] is node.args[1]:
        return node.args[0]
    return None


def _only_user(node: Node, target: Any) -> Any:
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target is target else None


def _is_call(node: Any, target: Any) -> bool:
    return isinstance(node, Node) and target in (None, node.target)
