"""The invariants of a captured graph: a table of rules, for after capture and after rewrites."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.fx import GraphModule, Node

from quire.errors import CaptureError
from quire.graph.rewrite import attribute
from quire.graph.types import infer_type, type_of


def _tensor_is_typed(graph: GraphModule, node: Node) -> str | None:
    traced = isinstance(node.meta.get("val"), torch.Tensor)
    return "produces a tensor without a type" if traced and type_of(node) is None else None


def _type_has_the_traced_shape(graph: GraphModule, node: Node) -> str | None:
    typed, traced = type_of(node), infer_type(node.meta.get("val"))
    if typed is None or traced is None or typed.shape == traced.shape:
        return None
    return f"has the type {typed} and produces {traced}"


def _op_is_functional(graph: GraphModule, node: Node) -> str | None:
    if node.op != "call_function" or not node.is_impure(impure_random=False):
        return None
    written = node.args[0] if node.args else None
    held = written if isinstance(written, Node) and written.op == "get_attr" else None
    what = f"{held.target!r} of the model" if held else "a tensor"
    return f"writes {what} in place ({node.target}); return the new value, or take it as an input"


def _attribute_exists(graph: GraphModule, node: Node) -> str | None:
    if node.op not in ("get_attr", "call_module"):
        return None
    try:
        attribute(graph, str(node.target))
    except AttributeError:
        return f"reads {node.target!r}, which the graph does not hold"
    return None


def _no_subgraph(graph: GraphModule, node: Node) -> str | None:
    is_region = node.op == "get_attr" and isinstance(
        getattr(graph, str(node.target), None), GraphModule
    )
    return "is a region with a graph of its own, such as a loop or a branch" if is_region else None


RULES: tuple[Callable[[GraphModule, Node], str | None], ...] = (
    _tensor_is_typed,
    _type_has_the_traced_shape,
    _op_is_functional,
    _attribute_exists,
    _no_subgraph,
)


def verify(graph: GraphModule) -> None:
    """Check every rule at every node; CaptureError names the first node that breaks one."""
    graph.graph.lint()
    for node in graph.graph.nodes:
        for rule in RULES:
            problem = rule(graph, node)
            if problem is not None:
                where = node.meta.get("quire_path") or "the root module"
                raise CaptureError(f"node {node.name!r} of {where} {problem}")
