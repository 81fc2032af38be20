"""Masks that do not depend on data, and whether one is the causal mask, which kernels know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from quire.graph.rewrite import attribute
from quire.ops.mask import MASKED
from quire.ops.movement import CREATION

LARGEST = 2**26
"""Elements of the largest mask that is looked into."""


def hides_later_keys(graph: GraphModule, condition: Node, is_hidden: bool, scores: Node) -> bool:
    """Whether a boolean mask is the causal mask of square scores, true where it `is_hidden`."""
    mask = _constant(graph, condition, scores)
    return mask is not None and torch.equal(mask != is_hidden, torch.ones_like(mask).tril())


def adds_to_later_keys(graph: GraphModule, added: Node, scores: Node) -> bool:
    """Whether what is added to square scores is 0, and hides later keys."""
    mask = _constant(graph, added, scores)
    if mask is None:
        return False
    visible = torch.ones_like(mask, dtype=torch.bool).tril()
    return bool(((mask == 0) == visible).all() and (mask[~visible] <= MASKED).all())


def _constant(graph: GraphModule, node: Node, scores: Node) -> Tensor | None:
    """The values of a mask as a matrix of the size of the scores, if it depends on no input."""
    shape = node.meta["val"].shape
    sizes = scores.meta["val"].shape[-2:]
    if not all(isinstance(size, int) for size in (*shape, *sizes)) or shape.numel() > LARGEST:
        return None
    try:
        with torch.no_grad():
            value = _evaluate(graph, node, {})
    except _Unknown:
        return None
    is_matrix = value.numel() == sizes[0] * sizes[1] and value.shape[-2:] == sizes
    return value.reshape(sizes) if is_matrix else None


class _Unknown(Exception):
    """A value that depends on an input or on a parameter."""


def _evaluate(graph: GraphModule, node: Node, known: dict[Node, Any]) -> Any:
    if node not in known:
        known[node] = _computed(graph, node, known)
    return known[node]


def _computed(graph: GraphModule, node: Node, known: dict[Node, Any]) -> Any:
    if node.op == "get_attr":
        held = attribute(graph, str(node.target))
        if isinstance(held, nn.Parameter):
            raise _Unknown
        return held
    if node.op != "call_function":
        raise _Unknown

    def value(source: Node) -> Any:
        return _like(source) if node.target in CREATION.targets else _evaluate(graph, source, known)

    args, kwargs = map_arg((node.args, node.kwargs), value)
    return cast("Callable[..., Any]", node.target)(*args, **kwargs)


def _like(node: Node) -> Tensor:
    """A tensor of which a new one takes dtype and device, or the sizes too."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        raise _Unknown
    is_fixed = all(isinstance(size, int) for size in value.shape)
    shape = value.shape if is_fixed else ()
    return torch.empty(shape, dtype=value.dtype, device=value.device)
