"""Pass: linear layers that share their input, such as those of q, k and v, become one product.

Their weights are put one below the other. Blocks run along the rows (in_features), so that rows of
several weights in one cast are rounded as they are in casts of their own. Where the results are
viewed as heads they are split as heads: a view of a part would bind the code to the batch size.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.fx import GraphModule, Node

from quire.formats import Block, parse
from quire.graph.rewrite import arguments, find, insert
from quire.precision.cast import cast
from quire.software.passes.base import Match, Pass, wants_gradients
from quire.software.passes.casts import Cast
from quire.software.passes.scores import VIEWS

aten = torch.ops.aten


class _Layer(NamedTuple):
    """A linear layer: its call, the weight and bias that the graph holds, and their casts; and
    the view of the result as heads, if that is its one use."""

    call: Node
    weight: Node
    weight_cast: Cast | None
    bias: Node | None
    bias_cast: Cast | None
    heads: Node | None

    @property
    def kind(self) -> tuple[Cast | None, bool, torch.dtype]:
        """Equal for layers whose weights can be one."""
        return self.weight_cast, self.bias is None, self.weight.meta["val"].dtype


def _pattern(graph: GraphModule) -> Iterator[Match]:
    groups: dict[Node, list[_Layer]] = {}
    for call in find(graph, aten.linear.default):
        layer = _read(call)
        if layer is not None:
            groups.setdefault(arguments(call)[0], []).append(layer)
    for x, layers in groups.items():
        kinds = dict.fromkeys(layer.kind for layer in layers)
        for kind in kinds if len(layers) > 1 else ():
            alike = [layer for layer in layers if layer.kind == kind]
            calls = tuple(layer.call for layer in alike)
            yield Match(_outputs(alike), (x,), alike, calls)


def _outputs(layers: list[_Layer]) -> tuple[Node, ...]:
    """What the parts of the merged product stand for: heads of one width, or whole results."""
    heads = tuple(layer.heads for layer in layers if layer.heads is not None)
    widths = {str(node.meta["val"].shape[-1]) for node in heads}
    is_uniform = len(heads) == len(layers) and len(widths) == 1
    return heads if is_uniform else tuple(layer.call for layer in layers)


def _heads(call: Node) -> Node | None:
    """The view (..., heads, width) of a result (..., heads * width), if nothing else reads it."""
    (user, *others) = call.users or (call,)
    if others or user.target not in VIEWS:
        return None
    sizes = [str(size) for size in user.meta["val"].shape]
    is_split = sizes[:-2] == [str(size) for size in call.meta["val"].shape[:-1]]
    return user if is_split else None


def _read(call: Node) -> _Layer | None:
    _, weight, bias = (*arguments(call), None)[:3]
    held, weight_cast = _held(weight)
    held_bias, bias_cast = _held(bias)
    if held is None or (held_bias is None and bias is not None):
        return None
    return _Layer(call, held, weight_cast, held_bias, bias_cast, _heads(call))


def _held(value: Any) -> tuple[Node | None, Cast | None]:
    """The tensor of the graph that `value` is, as it is or cast."""
    if not isinstance(value, Node):
        return None, None
    given = Cast.of(value) if value.target is cast else None
    source: Any = value.args[0] if given is not None else value
    return (source, given) if source.op == "get_attr" else (None, None)


def _condition(graph: GraphModule, match: Match) -> str | None:
    layers: list[_Layer] = match.found
    given = layers[0].weight_cast
    if len(layers) == 1:
        described = given.format if given else "none"
        return f"the others at this input differ in format (here {described}), bias or dtype"
    if wants_gradients(graph):
        return "with gradients the weights would be put together in every step"
    return None if given is None else _cast_problem(given)


def _cast_problem(given: Cast) -> str | None:
    found = parse(given.format)
    if not isinstance(found, Block):
        return None
    if found.size == "tensor" or found.tensor_scale is not None:
        return f"{given.format} has a scale for each weight as a whole"
    if given.scale is not None:
        return f"the static scale {given.scale} is that of one weight"
    if given.axis not in (1, -1):
        return f"blocks of {given.format} run along axis {given.axis}, across the rows"
    return None


def _replacement(graph: GraphModule, match: Match) -> tuple[Node, ...]:
    layers: list[_Layer] = match.found
    first = layers[0].call
    with graph.graph.inserting_before(first):
        weight = _joined(graph, first, [(layer.weight, None) for layer in layers])
        given = layers[0].weight_cast
        if given is not None:
            weight = _cast(graph, weight, layers[0].weight, given)
        operands = [weight]
        biases = [(layer.bias, layer.bias_cast) for layer in layers if layer.bias is not None]
        if biases:
            operands.append(_joined(graph, first, biases))
        merged = insert(graph.graph, first, aten.linear.default, *match.inputs, *operands)
        return _split(graph, merged, match.outputs, [layer.call for layer in layers])


def _split(
    graph: GraphModule, merged: Node, outputs: tuple[Node, ...], calls: list[Node]
) -> tuple[Node, ...]:
    """The parts of the merged product that stand for `outputs`."""
    axis = -1
    if outputs[0] is not calls[0]:
        axis, width = -2, outputs[0].meta["val"].shape[-1]
        leading = [_size(graph, merged, i) for i in range(merged.meta["val"].dim() - 1)]
        merged = insert(graph.graph, merged, aten.reshape.default, merged, [*leading, -1, width])
    sizes = [int(output.meta["val"].shape[axis]) for output in outputs]
    parts = insert(graph.graph, merged, aten.split_with_sizes.default, merged, sizes, axis)
    return tuple(
        insert(graph.graph, call, operator.getitem, parts, index)
        for index, call in enumerate(calls)
    )


def _size(graph: GraphModule, node: Node, axis: int) -> Any:
    size = node.meta["val"].shape[axis]
    return (
        size if isinstance(size, int) else insert(graph.graph, node, aten.sym_size.int, node, axis)
    )


def _joined(graph: GraphModule, like: Node, parts: Sequence[tuple[Node, Cast | None]]) -> Node:
    """What the graph holds, read here, each cast or not, along the first axis."""
    nodes: list[Node] = []
    for held, given in parts:
        node = graph.graph.get_attr(str(held.target))
        node.meta = dict(held.meta)
        nodes.append(node if given is None else _cast(graph, node, held, given))
    return insert(graph.graph, like, aten.cat.default, nodes)


def _cast(graph: GraphModule, source: Node, like: Node, given: Cast) -> Node:
    """A cast of `source`, with the meta of the cast of `like`."""
    former = next(user for user in like.users if user.target is cast)
    options = {} if given.scale is None else {"scale": given.scale}
    node = insert(graph.graph, source, cast, source, given.format, given.axis, **options)
    node.meta = {**former.meta, "val": node.meta["val"]}
    return node


MERGE_PROJECTIONS = Pass(
    name="merge_projections",
    pattern=_pattern,
    condition=_condition,
    replacement=_replacement,
    reason="one larger product reads the input once",
)
