"""The way of attention scores from their product to the softmax: its scale and its masks, read
from a graph step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.fx import GraphModule, Node

from quire.graph.rewrite import attribute
from quire.ops.mask import MASKED, causal_mask, keep_masked
from quire.ops.matmul import MATMUL
from quire.ops.movement import MOVEMENT
from quire.precision.cast import cast
from quire.software.passes.constant_masks import adds_to_later_keys, hides_later_keys

aten = torch.ops.aten

VIEWS = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)
CONVERSIONS = (aten._to_copy.default, aten.to.dtype)
_MADE: dict[Any, int] = {aten.full.default: 1, aten.scalar_tensor.default: 0}
"""{target that makes a constant: which argument is its number}."""


class Added(NamedTuple):
    """A mask that is added to the scores."""

    mask: Node


class Hidden(NamedTuple):
    """Scores replaced by a number: where `condition` is `is_hidden`."""

    condition: Node
    is_hidden: bool
    fill: float


class Causal(NamedTuple):
    """Scores of later keys replaced by minus infinity."""


class Scaled(NamedTuple):
    """Scores times a number."""

    factor: float


class Viewed(NamedTuple):
    """Scores with other leading axes."""

    sizes: list[Any]


Step: TypeAlias = "Added | Hidden | Causal | Scaled | Viewed"


@dataclass(frozen=True)
class Scores:
    """How scores come from a product.

    product: the product of queries and transposed keys.
    steps: from the product to the softmax.
    problem: why a step cannot be part of a fused attention, or None.
    """

    product: Node
    steps: tuple[Step, ...]
    problem: str | None = None


def read_scores(graph: GraphModule, node: Node) -> Scores | None:
    """The way from a product to the scores `node`; None where no product is near."""
    steps: list[Step] = []
    problem: str | None = None
    while node.target not in MATMUL.targets:
        source = _nearest(node.all_input_nodes)
        if source is None:
            return None
        reader = _READERS.get(node.target)
        found = reader(graph, node, source) if reader else f"{_name(node)} is between"
        if isinstance(found, str):
            problem = f"the scores are no product with a scale and masks: {found}"
        elif found is not None:
            steps.append(found)
        node = source
    return Scores(node, tuple(reversed(steps)), problem)


def _nearest(nodes: list[Node]) -> Node | None:
    """The node from which a product is the fewest steps upwards; None where none is near."""
    distances = [(_distance(node), i) for i, node in enumerate(nodes)]
    distance, index = min(distances, default=(FAR, 0))
    return nodes[index] if distance < FAR else None


def _distance(node: Node) -> int:
    """The number of steps upwards to a product, less than `FAR`, or `FAR`."""
    level, seen = [node], {node}
    for distance in range(FAR):
        if any(n.target in MATMUL.targets for n in level):
            return distance
        passable = [n for n in level if n.op == "call_function" and n.target not in _ENDS]
        level = list(dict.fromkeys(s for n in passable for s in n.all_input_nodes if s not in seen))
        seen.update(level)
    return FAR


FAR = 12
"""Steps within which the product of some scores is looked for."""

_ENDS = (aten.linear.default, aten.layer_norm.default, aten.embedding.default)


def _scale(graph: GraphModule, node: Node, source: Node) -> Step | str:
    first, second = node.args[:2]
    factor = _number(graph, second if first is source else first)
    is_quotient = node.target is aten.div.Tensor
    if factor is None or (is_quotient and first is not source):
        return f"{_name(node)} scales by a tensor"
    factor = 1 / factor if is_quotient else factor
    return Scaled(factor) if factor > 0 else f"the scale {factor:g} is not positive"


def _added(graph: GraphModule, node: Node, source: Node) -> Step | str:
    first, second = node.args[:2]
    other = second if first is source else first
    if not isinstance(other, Node) or node.kwargs:
        return f"{_name(node)} adds a number"
    if _depends(other, source):
        return f"{_name(node)} adds what depends on the scores"
    return Causal() if adds_to_later_keys(graph, other, node) else Added(other)


def _where(graph: GraphModule, node: Node, source: Node) -> Step | str:
    condition, chosen, other = node.args
    kept_where_true = chosen is source
    return _hidden(
        graph, node, condition, not kept_where_true, other if kept_where_true else chosen
    )


def _filled(graph: GraphModule, node: Node, source: Node) -> Step | str:
    _, condition, fill = node.args
    return _hidden(graph, node, condition, True, fill)


def _hidden(
    graph: GraphModule, node: Node, condition: Any, is_hidden: bool, fill: Any
) -> Step | str:
    number = _number(graph, fill)
    if number is None or number > MASKED:
        what = "a tensor" if number is None else f"{number:g}, which hides none"
        return f"{_name(node)} puts {what} in the place of scores"
    if condition.meta["val"].dtype != torch.bool:
        return f"the mask of {_name(node)} is not boolean"
    if hides_later_keys(graph, condition, is_hidden, node):
        return Causal()
    return Hidden(condition, is_hidden, number)


def _causal(graph: GraphModule, node: Node, source: Node) -> Step:
    return Causal()


def _viewed(graph: GraphModule, node: Node, source: Node) -> Step | str:
    if _matrix(node) != _matrix(source):
        return f"{_name(node)} takes rows or columns apart"
    sizes = node.args[1]
    assert isinstance(sizes, list | tuple)
    return Viewed(list(sizes))


def _converted(graph: GraphModule, node: Node, source: Node) -> None:
    return None


def _cast(graph: GraphModule, node: Node, source: Node) -> str:
    return f"a cast to {node.args[1]} rounds them"


def _kept(graph: GraphModule, node: Node, source: Node) -> str:
    rounded = node.args[0]
    format = rounded.args[1] if isinstance(rounded, Node) else "a format"
    return f"a cast to {format} rounds them"


_Reader: TypeAlias = "Callable[[GraphModule, Node, Node], Step | str | None]"
_READERS: dict[Any, _Reader] = {
    aten.mul.Tensor: _scale,
    aten.div.Tensor: _scale,
    aten.add.Tensor: _added,
    **dict.fromkeys((aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf), _where),
    **dict.fromkeys((aten.masked_fill.Scalar, aten.masked_fill.Tensor), _filled),
    causal_mask: _causal,
    **dict.fromkeys(VIEWS, _viewed),
    **dict.fromkeys(CONVERSIONS, _converted),
    cast: _cast,
    keep_masked: _kept,
}


def _number(graph: GraphModule, value: Any) -> float | None:
    """A number, or what a constant tensor of one value holds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, Node) or value.meta["val"].dim() != 0:
        return None
    if value.op == "get_attr":
        held = attribute(graph, str(value.target))
        return None if isinstance(held, torch.nn.Parameter) else float(held)
    if value.target in MOVEMENT.targets and len(value.all_input_nodes) == 1:
        return _number(graph, value.args[0])
    return _number(graph, value.args[_MADE[value.target]]) if value.target in _MADE else None


def _depends(node: Node, source: Node) -> bool:
    """Whether the value of `node` is computed from that of `source`."""
    seen: set[Node] = set()
    stack = [node]
    while stack:
        found = stack.pop()
        if found is source:
            return True
        stack.extend(s for s in found.all_input_nodes if s not in seen)
        seen.update(found.all_input_nodes)
    return False


def _matrix(node: Node) -> tuple[str, str]:
    """The last two sizes; as text, because comparing symbols would bind them."""
    shape = node.meta["val"].shape
    return str(shape[-2]), str(shape[-1])


def _name(node: Node) -> str:
    return f"{node.target} ({node.name})"
