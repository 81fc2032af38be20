"""Building blocks of the passes: find calls, insert a typed call, replace one node by another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

_PROVENANCE = ("nn_module_stack", "stack_trace")


def find(graph: GraphModule, *targets: Callable[..., Any]) -> list[Node]:
    """The calls of any of `targets`, in the order of the graph."""
    return [n for n in graph.graph.nodes if n.op == "call_function" and n.target in targets]


def insert(graph: Graph, like: Node, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
    """A call of `target` at the insertion point, traced, with the provenance of `like`."""
    name = getattr(target, "_opname", getattr(target, "__name__", None))
    node = graph.create_node("call_function", target, args, kwargs, name=name)
    copy_provenance(node, like)
    node.meta["val"] = _trace(like, target, args, kwargs)
    return node


def arguments(node: Node) -> tuple[Any, ...]:
    """The positional arguments of a call, nodes for tensors."""
    return node.args


def copy_provenance(node: Node, like: Node) -> None:
    """Give `node` the module path and source line of `like`."""
    node.meta.update({key: like.meta[key] for key in _PROVENANCE if key in like.meta})


def replace(node: Node, by: Node) -> None:
    """Let every user of `node` use `by`, and erase `node`."""
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def attribute(graph: GraphModule, name: str) -> Any:
    """The parameter, buffer or submodule that the dotted `name` means."""
    value: Any = graph
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _trace(like: Node, target: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    def value(node: Node) -> Any:
        return node.meta["val"]

    # Without the Python dispatcher some composite ops fix the symbolic batch to its example.
    with torch.no_grad(), like.meta["val"].fake_mode, enable_python_dispatcher():
        return target(*map_arg(args, value), **map_arg(kwargs, value))
