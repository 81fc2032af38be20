"""Pass: a product with a transposed parameter becomes a linear layer, so that a tied weight is one
tensor and is stored once."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from quire.graph.rewrite import arguments, find, insert, replace

aten = torch.ops.aten
_SWAPS = (aten.t.default, aten.numpy_T.default, aten.transpose.int, aten.permute.default)


def restore_linear(graph: GraphModule) -> None:
    """Replace `x @ weight.T` by `linear(x, weight)`."""
    for product in find(graph, aten.matmul.default, aten.mm.default):
        x, transposed = arguments(product)
        if _is_transposed_parameter(transposed):
            weight = transposed.args[0]
            with graph.graph.inserting_before(product):
                replace(product, insert(graph.graph, product, aten.linear.default, x, weight))


def _is_transposed_parameter(value: Any) -> bool:
    """Whether `value` swaps the axes of a matrix that the graph holds."""
    if not isinstance(value, Node) or value.target not in _SWAPS:
        return False
    source, *axes = arguments(value)
    if source.op != "get_attr" or source.meta["val"].dim() != 2:
        return False
    return axes in ([], [0, 1], [1, 0], [-1, -2], [-2, -1], [[1, 0]])
