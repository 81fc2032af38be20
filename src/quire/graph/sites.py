"""Sites: the named places of a graph at which a number format can be chosen."""

from __future__ import annotations

from dataclasses import dataclass

from torch.fx import GraphModule

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
    elements: how many values that is.
    macs: multiply-accumulates for one example that the tensor feeds; 0 unless `is_operand`.
    axis: the axis along which blocks run; several are flattened into one, in that order. The input
        of a convolution has the axes (1, 2, ...) of its patches, of shape (patches, in/groups,
        *kernel): a block format needs `quire.graph.open_convolution` first.
    tie: name of the first site of the tie group, which shares one format; `name` when alone.
    node: name of the consuming node (at an input: of the placeholder).
    arg: position of the consumer's argument; in the flattened outputs for the node "output". None
        is the result of `node` itself.
    is_operand: whether this is an operand of a product or convolution.
    """

    name: str
    op: str
    path: str
    operand: str
    role: Role
    shape: Shape
    elements: int
    macs: int
    axis: Axis
    tie: str
    node: str
    arg: int | None
    is_operand: bool


def sites(graph: GraphModule) -> dict[str, Site]:
    """Every site of a captured graph by name, in the order of the graph."""
    raise NotImplementedError
