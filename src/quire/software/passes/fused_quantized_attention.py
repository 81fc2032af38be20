"""Pass: attention whose probabilities are cast becomes one call, its casts inside.

The casts of query, key and value go in too where the kernel has arithmetic for their formats;
otherwise they stay where they are, before the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch.fx import GraphModule, Node

from quire.errors import FormatError
from quire.formats import parse
from quire.graph.rewrite import find
from quire.ops.softmax import SOFTMAX
from quire.precision.cast import cast
from quire.software.attention import fused_attention, problem
from quire.software.kernels.elements import rounding_of
from quire.software.passes.base import Match, Pass, wants_gradients
from quire.software.passes.casts import Cast
from quire.software.passes.fuse_attention import (
    CHECKS,
    Attention,
    Emitter,
    attention_below,
    inputs_of,
)


class Operand(NamedTuple):
    """An operand of attention: a tensor, and the format of the cast that the call takes in."""

    source: Node
    format: str | None


class Quantized(NamedTuple):
    """Attention as it stands in a graph, and its operands without the casts that go in.

    key: transposed, as it stands. on_the_way: from the softmax to the product, neither included.
    """

    whole: Attention
    query: Operand
    key: Operand
    value: Operand
    on_the_way: tuple[Node, ...]

    @property
    def casts(self) -> list[Node]:
        """The casts of the probabilities."""
        return [node for node in self.on_the_way if node.target is cast]

    @property
    def formats(self) -> tuple[str | None, str | None, str, str | None]:
        probabilities = Cast.of(self.casts[0]).format
        return self.query.format, self.key.format, probabilities, self.value.format


def _pattern(graph: GraphModule) -> Iterator[Match]:
    for softmax in find(graph, *SOFTMAX.targets):
        whole = attention_below(graph, softmax)
        way = () if whole is None else _way(softmax, whole.product)
        if whole is not None and any(node.target is cast for node in way):
            found = Quantized(
                whole,
                _operand(whole.query, -1),
                _operand(whole.key, -2),
                _operand(whole.value, -2),
                way,
            )
            yield Match((whole.product,), _inputs(found), found)


def _way(softmax: Node, product: Node) -> tuple[Node, ...]:
    node, way = product.all_input_nodes[0], list[Node]()
    while node is not softmax:
        way.append(node)
        node = node.all_input_nodes[0]
    return tuple(reversed(way))


def _operand(node: Node, axis: int) -> Operand:
    """What a cast rounds, and its format, where the kernel can do the cast along that axis."""
    if node.target is not cast:
        return Operand(node, None)
    format, along, scale = Cast.of(node)
    rank = node.meta["val"].dim()
    is_along = isinstance(along, int) and along % rank == axis % rank
    if scale is not None or not (is_along or not parse(format).is_block):
        return Operand(node, None)
    try:
        rounding_of(parse(format))
    except FormatError:
        return Operand(node, None)
    source = node.args[0]
    assert isinstance(source, Node)
    return Operand(source, format)


def _inputs(found: Quantized) -> tuple[Node, ...]:
    operands = (found.query, found.key, found.value)
    masks = inputs_of(found.whole)[3:]
    return (*(operand.source for operand in operands), *masks)


def _condition(graph: GraphModule, match: Match) -> str | None:
    found: Quantized = match.found
    whole = found.whole
    device = whole.product.meta["val"].device
    problems = (
        "the kernel has no gradient" if wants_gradients(graph) else None,
        whole.scores.problem,
        *(check(graph, whole) for check in CHECKS),
        _way_problem(found),
        problem(device, *found.formats),
    )
    return next(filter(None, problems), None)


def _way_problem(found: Quantized) -> str | None:
    nodes = (found.whole.softmax, *found.on_the_way)
    shared = [node.name for node in nodes if len(node.users) > 1]
    if shared:
        return f"the probabilities ({shared[0]}) are used elsewhere too"
    if len(found.casts) > 1:
        return f"the probabilities are cast {len(found.casts)} times"
    (node,) = found.casts
    format, axis, scale = Cast.of(node)
    if scale is not None:
        return f"the cast of the probabilities to {format} has a static scale"
    rank = node.meta["val"].dim()
    if parse(format).is_block and axis not in (-1, rank - 1):
        return f"the blocks of {format} run along axis {axis} of the probabilities"
    return None


def _replacement(graph: GraphModule, match: Match) -> tuple[Node, ...]:
    found: Quantized = match.found
    emitter = Emitter(graph, found.whole)
    with graph.graph.inserting_before(found.whole.product):
        operands = (found.query.source, found.key.source, found.value.source)
        query, key, value, mask, scale, is_causal = emitter.operands(*operands)
        options = {"formats": found.formats, "mask": mask, "scale": scale, "is_causal": is_causal}
        fused = emitter.emit(fused_attention, query, key, value, **options)
        return (emitter.together(fused),)


FUSE_QUANTIZED_ATTENTION = Pass(
    name="fuse_quantized_attention",
    pattern=_pattern,
    condition=_condition,
    replacement=_replacement,
    reason="one kernel that rounds the probabilities on the way, so that none reach memory",
    verified=True,
)
