"""What the nodes of a quantized graph say: layers, casts, who reads what, names and shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from quire.errors import HardwareError
from quire.formats import Block, parse
from quire.formats.layout import WHOLE_TENSOR
from quire.graph.rewrite import arguments
from quire.graph.types import type_of
from quire.hardware.names import identifier
from quire.hardware.statics import Statics, cast_arguments
from quire.hardware.stream import Codes
from quire.ops import op_of
from quire.precision.cast import cast


def layer_name(node: Node) -> str:
    """The path of the module of a linear layer, as `lanes` names it."""
    return str(node.meta["quire_path"]) or node.name


def op_name(node: Node) -> str:
    """The name of the stage of an op that is no module: the path of its module, then its own."""
    path = str(node.meta["quire_path"])
    return identifier(node.name if path in ("", node.name) else f"{path}.{node.name}")


def linear_nodes(q: GraphModule) -> list[Node]:
    """The linear layers of a graph, in order."""
    return [n for n in q.graph.nodes if (op := op_of(n)) is not None and op.name == "linear"]


def matrix_shape(node: Node) -> tuple[int, int]:
    """(K, N) of a linear layer."""
    found = type_of(arguments(node)[1])
    assert found is not None
    return found.example[1], found.example[0]


def codes_of(node: Node) -> Codes:
    _, name, _, scale = cast_arguments(node)
    return Codes(parse(name), scale)


def cast_key(node: Node) -> Any:
    """What a cast does; None for another node."""
    if node.target is not cast:
        return None
    _, name, axis, scale = cast_arguments(node)
    return (name, axis if parse(name).is_block else -1, scale)


def check_axis(node: Node) -> None:
    """HardwareError where blocks that have a scale each do not run along the last axis."""
    _, name, axis, scale = cast_arguments(node)
    found, block = type_of(node), parse(name)
    last = -1 if found is None else len(found.shape) - 1
    one_scale = scale is not None or (isinstance(block, Block) and block.size == WHOLE_TENSOR)
    if block.is_block and not one_scale and axis not in (-1, last):
        raise HardwareError(
            f"blocks of {name} run along axis {axis}: hardware has them along the last, {last}; "
            "leave the axis of the entry out"
        )


def cast_name(node: Node) -> str:
    names = node.meta.get("quire_sites") or (node.name,)
    return identifier(str(names[0]))


def redundant_casts(q: GraphModule, statics: Statics) -> dict[Node, Node]:
    """Casts of what has exactly that format already."""
    alias: dict[Node, Node] = {}
    for node in q.graph.nodes:
        if node.target is not cast or node in statics:
            continue
        source = cast_arguments(node)[0]
        while source in alias:
            source = alias[source]
        if source.target is cast and cast_key(source) == cast_key(node):
            alias[node] = source
    return alias


def readers_of(q: GraphModule, alias: dict[Node, Node], statics: Statics) -> dict[Node, list[Node]]:
    """The nodes that read each value, through redundant casts; an op that reads twice, twice."""
    readers: dict[Node, list[Node]] = {node: [] for node in q.graph.nodes}
    for node in q.graph.nodes:
        if node in alias or is_size(node):
            continue
        for source in _sources(node):
            while source in alias:
                source = alias[source]
            if source not in statics and not is_size(source):
                readers[source].append(node)
    return readers


def _sources(node: Node) -> list[Node]:
    found: list[Node] = []
    map_arg((node.args, node.kwargs), found.append)
    return found


def is_size(node: Node) -> bool:
    """Whether a node computes a size, such as that of the batch, and no tensor."""
    value = node.meta.get("val")
    return node.op == "call_function" and isinstance(value, int | torch.SymInt)


def sample_shape(node: Node) -> tuple[int, ...]:
    """The shape of one sample: that of the tensor without its batch axis."""
    found = type_of(node)
    if found is None or not found.example:
        raise HardwareError("its result is not a tensor with a batch axis")
    return tuple(found.example[1:]) or (1,)


ONE_CAST = (
    "the result of a function goes to one scalar cast: give its output site a format, as "
    "plan.for_hardware(graph, calibration) does"
)


def needs_format(node: Node) -> str:
    """What to say to a reader of a node whose value is a function that has yet to be cast."""
    return f"{node.meta.get('quire_path') or node.name}: {ONE_CAST}"
