"""The part of a graph that is computed from parameters alone: weights and folded batch norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from quire.graph.rewrite import attribute
from quire.ops import op_of
from quire.precision.cast import cast as quire_cast


def constant_nodes(graph: GraphModule) -> dict[Node, frozenset[str]]:
    """{node: the parameters and buffers that it is computed from} of all that needs no input.

    Casts and ops with sites end this part: a parameter meets its format there. A tensor with
    several names has the first that the graph reads.
    """
    found: dict[Node, frozenset[str]] = {}
    names: dict[int, str] = {}
    for node in graph.graph.nodes:
        sources = node.all_input_nodes
        if node.op == "get_attr":
            name = str(node.target)
            found[node] = frozenset([names.setdefault(id(attribute(graph, name)), name)])
        elif sources and all(n in found for n in sources) and not _has_sites(node):
            found[node] = frozenset[str]().union(*(found[n] for n in sources))
    return found


def _has_sites(node: Node) -> bool:
    op = op_of(node)
    known = op is not None and bool(op.operands)
    return node.op != "call_function" or node.target is quire_cast or known


def evaluate(graph: GraphModule, node: Node) -> Tensor:
    """The value of a constant node, without a gradient."""
    with torch.no_grad():
        return _evaluate(graph, node)


def _evaluate(graph: GraphModule, node: Node) -> Any:
    if node.op == "get_attr":
        return attribute(graph, str(node.target))
    args, kwargs = map_arg((node.args, node.kwargs), lambda n: _evaluate(graph, n))
    return cast("Callable[..., Any]", node.target)(*args, **kwargs)
