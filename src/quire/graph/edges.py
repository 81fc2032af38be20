"""The tensors at the ops of a graph for which a format can be chosen, before they have names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch.fx import Node

from quire.graph.dataflow import Origin
from quire.graph.rewrite import arguments
from quire.graph.types import float_type, type_of
from quire.ops import op_of
from quire.ops.base import Operand, Shape

# What the operands of the two products of attention are called.
_ATTENTION = {"qk": ("query", "key"), "pv": ("probs", "value")}


@dataclass(frozen=True)
class Edge:
    """One tensor at one op.

    node: the consumer, or what produces the tensor where `operand.arg` is None.
    value: the node that produces the tensor, or a Python number; None at a table inside the op.
    macs: multiply-accumulates of the op for one example, where this is an operand of a product.
    """

    node: Node
    operand: Operand
    value: Node | float | None
    macs: int = 0


def edges_of(node: Node, origin: Mapping[Node, Origin]) -> Iterator[Edge]:
    """The edges of `node`, in the order of its operands; none where it handles indices only."""
    op = op_of(node)
    if node.op == "placeholder" and float_type(node):
        role = "mask" if origin[node].is_index else "input"
        yield Edge(node, Operand(node.name, None, role), node)
    elif node.op == "output":
        yield from _output_edges(node)
    elif op is not None and not origin[node].is_index:
        macs = op.macs(*_shapes(node))
        for operand in op.operands:
            yield from _operand_edges(node, operand, origin, macs)


def _operand_edges(
    node: Node, operand: Operand, origin: Mapping[Node, Origin], macs: int
) -> Iterator[Edge]:
    """The edge of one operand, or none where it is absent or a mask."""
    value = _argument(node, operand.arg)
    if operand.role == "table":
        yield Edge(node, operand, None)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        name = operand.name if operand.role == "constant" else "constant"
        yield Edge(node, Operand(name, operand.arg, "constant"), value)
    elif float_type(value) is not None and not _is_mask(value, origin):
        named = _named(node, operand, origin)
        yield Edge(node, named, value, macs if operand.is_operand else 0)


def _argument(node: Node, position: int | None) -> Any:
    if position is None:
        return node
    return arguments(node)[position] if position < len(arguments(node)) else None


def _named(node: Node, operand: Operand, origin: Mapping[Node, Origin]) -> Operand:
    """`operand` with the name and role that it has at this node."""
    label, value = node.meta.get("quire_label"), _argument(node, operand.arg)
    if label in _ATTENTION and operand.arg is not None:
        return replace(operand, name=_ATTENTION[label][operand.arg])
    if operand.static is not None and origin[value].is_static:
        name, role = operand.static
        return replace(operand, name=name, role=role)
    if operand.role == "residual" and any(
        _origin(arg, origin).is_static for arg in arguments(node)[:2]
    ):
        return replace(operand, role="activation")
    return operand


def _is_mask(value: Any, origin: Mapping[Node, Origin]) -> bool:
    return origin[value].is_mask and origin[value].is_index


def _origin(value: Any, origin: Mapping[Node, Origin]) -> Origin:
    return origin[value] if isinstance(value, Node) else Origin()


def _output_edges(node: Node) -> Iterator[Edge]:
    """The tensors that the graph returns, named by their place in the returned structure."""
    (values,) = arguments(node)
    for index, (name, value) in enumerate(zip(node.meta["quire_outputs"], values, strict=True)):
        if float_type(value) is not None:
            yield Edge(node, Operand(name, index, "output"), value)


def _shapes(node: Node) -> tuple[Shape, list[Shape]]:
    """The shapes for one example of the result and of every positional argument."""
    types = [type_of(arg) if isinstance(arg, Node) else None for arg in (node, *arguments(node))]
    output, *inputs = [() if typed is None else typed.example for typed in types]
    return output, inputs
