"""Rewrite on demand: a convolution as patches and a product over them, so that a format whose
blocks run along a patch can be cast."""

from __future__ import annotations

from typing import Any

from torch.fx import GraphModule, Node

from quire.graph.annotate import annotate_node
from quire.graph.rewrite import arguments, insert, replace
from quire.ops.convolution import convolve_patches, patches


def open_convolution(graph: GraphModule, node: Node) -> tuple[Node, Node]:
    """Replace the convolution `node` by `patches` and `convolve_patches`, typed, and return both.

    The result of the first is the first argument of the second: the edge on which the input of the
    convolution is cast, along its site's axes. Weight and bias keep their places, 1 and 2.
    """
    x, weight, bias, stride, padding, dilation, groups = convolution_settings(node)
    kernel = list(weight.meta["val"].shape[2:])
    with graph.graph.inserting_before(node):
        window = insert(graph.graph, node, patches, x, kernel, stride, padding, dilation, groups)
        product = insert(graph.graph, node, convolve_patches, window, weight, bias)
    for created in (window, product):
        annotate_node(created)
    replace(node, product)
    return window, product


def convolution_settings(node: Node) -> list[Any]:
    """Every argument of the convolution, the defaults filled in; one size for every axis."""
    rank = node.meta["val"].dim() - 2
    defaults = [None, None, None, [1], [0], [1], 1]
    given = arguments(node)
    x, weight, bias, *sizes, groups = [*given, *defaults[len(given) :]]
    return [x, weight, bias, *(_repeated(size, rank) for size in sizes), groups]


def _repeated(size: Any, rank: int) -> Any:
    return list(size) * rank if not isinstance(size, str) and len(size) == 1 else size
