"""Sites: the named places of a graph at which a number format can be chosen."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch.fx import GraphModule, Node

from quire.errors import CaptureError
from quire.graph.dataflow import Origin, origins
from quire.graph.edges import Edge, edges_of
from quire.graph.rewrite import attribute
from quire.graph.site_names import op_names
from quire.graph.types import float_type
from quire.ops import op_of
from quire.ops.base import Axis, Role, Shape


@dataclass(frozen=True)
class Site:
    """One tensor of one op for which a format can be chosen.

    name: unique and stable across captures, such as "layers.0.attn.qk.query".
    op: name of the op ("linear"); "input" and "output" at the edges of the graph.
    path: path of the module that calls the op; "fc1#2" at its second call.
    operand: last part of the name ("input", "weight", "query", ...).
    role: what the tensor is to the op.
    shape: for one example (a weight: all of it; a scalar constant: ()).
    batch_axes: the axes of `shape` along which a batch lies; none where its size is fixed.
    dtype: of the tensor; None for a scalar constant or a table.
    elements: how many values that is.
    macs: multiply-accumulates for one example that the tensor feeds; 0 unless `is_operand`.
    axis: the axis along which blocks run, one for a tie group (that of its first product);
        several are flattened into one, in that order. The input
        of a convolution has the axes (1, 2, ...) of its patches, of shape (patches, in/groups,
        *kernel): a block format needs `quire.graph.open_convolution` first.
    tie: name of the first site of the tie group, which shares one format; `name` when alone.
    node: name of the consuming node (at an input: of the placeholder).
    arg: position of the consumer's argument; in the flattened outputs for the node "output". None
        is the result of `node` itself.
    is_operand: whether this is an operand of a product or convolution.
    parameter: the parameter or buffer that the tensor is, by the first name that the graph reads;
        None for one that is computed, from inputs or from parameters.
    bias: the parameter that the op adds to its product, in the same way; None where there is none,
        and where it has no value for each column or channel.
    """

    name: str
    op: str
    path: str
    operand: str
    role: Role
    shape: Shape
    batch_axes: tuple[int, ...]
    dtype: torch.dtype | None
    elements: int
    macs: int
    axis: Axis
    tie: str
    node: str
    arg: int | None
    is_operand: bool
    parameter: str | None = None
    bias: str | None = None


def sites(graph: GraphModule) -> dict[str, Site]:
    """Every site of a captured graph by name, in the order of the graph.

    Raises `CaptureError` for a module that `capture` did not give.
    """
    check_captured(graph)
    origin = origins(graph)
    edges = {node: list(edges_of(node, origin)) for node in graph.graph.nodes}
    names = op_names([node for node in edges if edges[node]])
    parameters = _parameters(graph)
    found = {
        site.name: (site, _source(graph, edge, origin))
        for node, group in edges.items()
        for bias in [_bias(group, parameters)]
        for edge in group
        for site in [_site(edge, names[node], parameters, bias)]
    }
    return _tied(found)


def check_captured(graph: object) -> None:
    """Raise `CaptureError` for a module that does not come from `capture`."""
    if "quire" not in getattr(graph, "meta", {}):
        raise CaptureError(
            f"this {type(graph).__name__} is not a captured graph: give one of quire.capture"
        )


def _parameters(graph: GraphModule) -> dict[Node, str]:
    """The name of every parameter and buffer, the same for all nodes that read one tensor."""
    nodes = graph.graph.find_nodes(op="get_attr")
    names: dict[int, str] = {}
    return {n: names.setdefault(id(attribute(graph, str(n.target))), str(n.target)) for n in nodes}


def _site(edge: Edge, op_name: str, parameters: Mapping[Node, str], bias: str | None) -> Site:
    node, operand = edge.node, edge.operand
    typed, op = float_type(edge.value), op_of(node)
    shape = () if typed is None else typed.example
    sizes = () if typed is None else typed.shape
    axis = operand.axis(node) if callable(operand.axis) else operand.axis
    name = f"{op_name}.{operand.name}"
    return Site(
        name=name,
        op=operand.role if op is None else op.name,
        path=node.meta["quire_path"],
        operand=operand.name,
        role=operand.role,
        shape=shape,
        batch_axes=tuple(axis for axis, size in enumerate(sizes) if isinstance(size, str)),
        dtype=edge.value.meta["val"].dtype if isinstance(edge.value, Node) else None,
        elements=prod(shape),
        macs=edge.macs,
        axis=axis if len(shape) > 1 else -1,
        tie=name,
        node=node.name,
        arg=operand.arg,
        is_operand=operand.is_operand,
        parameter=_parameter(edge, parameters),
        bias=bias,
    )


def _parameter(edge: Edge, parameters: Mapping[Node, str]) -> str | None:
    return parameters.get(edge.value) if isinstance(edge.value, Node) else None


def _bias(edges: Iterable[Edge], parameters: Mapping[Node, str]) -> str | None:
    """The parameter that an op with these edges adds, with a value for each of its sums."""
    added = [edge for edge in edges if edge.operand.role == "bias"]
    return _parameter(added[0], parameters) if added and _is_for_each(added[0]) else None


def _is_for_each(bias: Edge) -> bool:
    """Whether a bias is not broadcast along the columns of the result, as addmm may do."""
    typed, result = float_type(bias.value), float_type(bias.node)
    if typed is None or result is None or not typed.shape:
        return False
    is_row = prod(typed.example) == typed.shape[-1]
    return is_row and (typed.shape[-1] != 1 or 1 in result.shape)


def _source(graph: GraphModule, edge: Edge, origin: dict[Node, Origin]) -> Hashable:
    """Equal for the sites of one tie group; None for a site that is never tied.

    Uses of one parameter are tied, and equal uses of one activation along the same axis.
    """
    if edge.operand.arg is None or not isinstance(edge.value, Node):
        return None
    if origin[edge.value].is_static:
        return _expression(graph, edge.value)
    axis = edge.operand.axis
    return edge.value, axis(edge.node) if callable(axis) else axis, edge.operand.role


def _expression(graph: GraphModule, value: object) -> Hashable:
    """How a static tensor is computed from the tensors that the graph holds."""
    if not isinstance(value, Node):
        return repr(value)
    if value.op == "get_attr":
        held = attribute(graph, str(value.target))
        return id(held) if isinstance(held, torch.Tensor) else str(value.target)
    return str(value.target), *(_expression(graph, arg) for arg in value.args)


def _tied(found: dict[str, tuple[Site, Hashable]]) -> dict[str, Site]:
    """Name each tie group by its first site; one that holds an operand is made of operands, whose
    first gives all of them its axis."""
    groups: dict[Hashable, list[Site]] = {}
    for site, source in found.values():
        groups.setdefault(site.name if source is None else source, []).append(site)
    tied = {site.name: site for group in groups.values() for site in _as_one(group)}
    return {name: tied[name] for name in found}


def _as_one(group: list[Site]) -> list[Site]:
    """The sites of a tie group, which share name, axis and whether they are operands."""
    operand = next((site for site in group if site.is_operand), None)
    axis, is_operand = (operand or group[0]).axis, operand is not None
    return [replace(s, tie=group[0].name, axis=axis, is_operand=is_operand) for s in group]
