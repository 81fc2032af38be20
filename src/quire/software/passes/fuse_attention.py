"""Pass: attention that is spelt out, with any scale and mask, becomes one fused call.

`capture` opens fused attention too, so that formats can be put inside; where none was, the call is
whole again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from quire.graph.rewrite import arguments, find, insert
from quire.ops.matmul import MATMUL
from quire.ops.softmax import SOFTMAX
from quire.precision.cast import cast
from quire.software.passes.base import Match, Pass
from quire.software.passes.scores import (
    CONVERSIONS,
    VIEWS,
    Added,
    Causal,
    Hidden,
    Scaled,
    Scores,
    Viewed,
    read_scores,
)

aten = torch.ops.aten


def visible_before(query: Tensor, key: Tensor) -> Tensor:
    """True where the key (..., keys, d) does not come after the query (..., queries, d)."""
    shape = (query.shape[-2], key.shape[-2])
    return torch.ones(shape, dtype=torch.bool, device=query.device).tril()


@dataclass(frozen=True)
class Attention:
    """Attention as it stands in a graph.

    scores: how the scores come from queries and keys.
    softmax, product: what turns them into probabilities, and the product of those with the values.
    problem: why what lies between the last two cannot be fused, or None.
    dropout: the probability of a dropout between them.
    """

    scores: Scores
    softmax: Node
    product: Node
    problem: str | None
    dropout: float

    @property
    def query(self) -> Node:
        return arguments(self.scores.product)[0]

    @property
    def key(self) -> Node:
        """The transposed keys."""
        return arguments(self.scores.product)[1]

    @property
    def value(self) -> Node:
        return arguments(self.product)[1]


def _pattern(graph: GraphModule) -> Iterator[Match]:
    for softmax in find(graph, *SOFTMAX.targets):
        found = attention_below(graph, softmax)
        if found is not None:
            yield Match((found.product,), inputs_of(found), found)


def attention_below(graph: GraphModule, softmax: Node) -> Attention | None:
    """The attention to which a softmax belongs, casts on its probabilities included."""
    below = _to_product(graph, softmax)
    scores = read_scores(graph, arguments(softmax)[0])
    return None if below is None or scores is None else Attention(scores, softmax, *below)


def inputs_of(found: Attention) -> tuple[Node, ...]:
    """Query, transposed key and value, then the masks."""
    masks = [step.mask for step in found.scores.steps if isinstance(step, Added)]
    masks += [step.condition for step in found.scores.steps if isinstance(step, Hidden)]
    return (found.query, found.key, found.value, *masks)


def _to_product(graph: GraphModule, softmax: Node) -> tuple[Node, str | None, float] | None:
    """The product that takes the probabilities, what is wrong on the way, and its dropout."""
    node, problem, dropout = softmax, None, 0.0
    while True:
        users = [user for user in node.users if node in user.args]
        ahead = [user for user in users if _leads_on(graph, user, node)]
        if not ahead:
            return None
        if len(node.users) > 1:
            problem = problem or "the probabilities are used elsewhere too"
        (user, *_) = ahead
        if user.target in MATMUL.targets:
            return user, problem, dropout
        if user.target is cast:
            problem = f"a cast to {user.args[1]} rounds the probabilities"
        if user.op == "call_module":
            module = graph.get_submodule(str(user.target))
            dropout = module.p if isinstance(module, nn.Dropout) else 0.0
        node = user


def _leads_on(graph: GraphModule, user: Node, node: Node) -> bool:
    """Whether a user of probabilities is their product with the values, or is on the way to it."""
    if user.target in MATMUL.targets:
        return user.args[0] is node
    if user.op == "call_module":
        return isinstance(graph.get_submodule(str(user.target)), nn.Dropout)
    return user.target in (*VIEWS, *CONVERSIONS, cast)


def _condition(graph: GraphModule, match: Match) -> str | None:
    found: Attention = match.found
    problems = (found.scores.problem, found.problem, *(check(graph, found) for check in CHECKS))
    return next(filter(None, problems), None)


def _dropout_problem(graph: GraphModule, found: Attention) -> str | None:
    if graph.training and found.dropout:
        return f"a fused dropout of {found.dropout:g} draws other numbers in training"
    return None


def _axis_problem(graph: GraphModule, found: Attention) -> str | None:
    axis = arguments(found.softmax)[1]
    rank = found.softmax.meta["val"].dim()
    return None if axis % rank == rank - 1 else f"the softmax runs along axis {axis}"


def _sharing_problem(graph: GraphModule, found: Attention) -> str | None:
    node = arguments(found.softmax)[0]
    shared = [n.name for n in (found.scores.product, node) if len(n.users) > 1]
    return f"the scores ({shared[0]}) are used elsewhere too" if shared else None


def _rank_problem(graph: GraphModule, found: Attention) -> str | None:
    ranks = {n.meta["val"].dim() for n in (found.query, found.key, found.value)}
    if len(ranks) > 1 or not ranks <= {3, 4}:
        return f"queries, keys and values have {sorted(ranks)} axes, not all 3 or all 4"
    leading = {str(n.meta["val"].shape[:-2]) for n in (found.query, found.key, found.value)}
    return f"their leading axes differ: {', '.join(sorted(leading))}" if len(leading) > 1 else None


def _dtype_problem(graph: GraphModule, found: Attention) -> str | None:
    nodes = (found.query, found.key, found.value, found.product)
    dtypes = {str(n.meta["val"].dtype) for n in nodes}
    return f"it mixes {' and '.join(sorted(dtypes))}" if len(dtypes) > 1 else None


def _view_problem(graph: GraphModule, found: Attention) -> str | None:
    steps = found.scores.steps
    first = next((i for i, step in enumerate(steps) if isinstance(step, Viewed)), 0)
    masked = [step for step in steps[:first] if not isinstance(step, Scaled)]
    return "it masks scores before their heads are apart" if masked else None


CHECKS: tuple[Callable[[GraphModule, Attention], str | None], ...] = (
    _dropout_problem,
    _axis_problem,
    _sharing_problem,
    _rank_problem,
    _dtype_problem,
    _view_problem,
)


def _replacement(graph: GraphModule, match: Match) -> tuple[Node, ...]:
    found: Attention = match.found
    with graph.graph.inserting_before(found.product):
        return (Emitter(graph, found).attention(),)


class Emitter:
    """Emits the fused call of one attention at the insertion point."""

    def __init__(self, graph: GraphModule, found: Attention) -> None:
        self._graph, self._found = graph.graph, found

    def emit(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
        return insert(self._graph, self._found.product, target, *args, **kwargs)

    def attention(self) -> Node:
        found = self._found
        query, key, value, mask, scale, is_causal = self.operands(
            found.query, found.key, found.value
        )
        fused = self.emit(
            aten.scaled_dot_product_attention.default,
            *(query, key, value, mask, 0.0, is_causal),
            scale=scale,
        )
        return self.together(fused)

    def operands(
        self, query: Node, key: Node, value: Node
    ) -> tuple[Node, Node, Node, Node | None, float, bool]:
        """Query, key, value (each of four axes), mask, scale and whether the mask is causal.

        key: transposed, as in the graph.
        """
        key = self.emit(aten.transpose.int, key, -2, -1)
        query, key, value = (self._apart(node) for node in (query, key, value))
        scale, masks = self._masks(query, key)
        is_causal = masks == [None]
        mask = None if is_causal or not masks else self._joined(masks, query, key)
        return query, key, value, mask, scale, is_causal

    def _sizes(self) -> list[Any] | None:
        """The leading axes into which the scores are viewed before they are masked."""
        views = [step.sizes for step in self._found.scores.steps if isinstance(step, Viewed)]
        return views[0][:-2] if views else None

    def _apart(self, node: Node) -> Node:
        """Queries, keys or values with four axes: kernels take no fewer."""
        sizes = self._sizes()
        if sizes is not None:
            rows, columns = (self._size(node, axis) for axis in (-2, -1))
            return self.emit(aten.reshape.default, node, [*sizes, rows, columns])
        is_short = node.meta["val"].dim() == 3
        return self.emit(aten.unsqueeze.default, node, 0) if is_short else node

    def together(self, fused: Node) -> Node:
        """The result in the shape of the product that it stands for."""
        product, query = self._found.product, self._found.query
        if self._sizes() is not None:
            rank = product.meta["val"].dim()
            sizes = [self._size(query, axis) for axis in range(rank - 1)]
            columns = self._size(self._found.value, -1)
            return self.emit(aten.reshape.default, fused, [*sizes, columns])
        is_short = product.meta["val"].dim() == 3
        return self.emit(aten.squeeze.dim, fused, 0) if is_short else fused

    def _size(self, node: Node, axis: int) -> Any:
        size = node.meta["val"].shape[axis]
        is_number = isinstance(size, int) or size.node.expr.is_number
        return int(size) if is_number else self.emit(aten.sym_size.int, node, axis)

    def _masks(self, query: Node, key: Node) -> tuple[float, list[Node | None]]:
        """The scale, and the masks: boolean ones true where a key is visible, others added; None
        is the causal mask."""
        scale = 1.0
        masks: list[Node | None] = []
        for step in self._found.scores.steps:
            if isinstance(step, Scaled):
                scale *= step.factor
                masks = [self._scaled(mask, step.factor) for mask in masks]
            elif isinstance(step, Added):
                masks.append(self._ranked(step.mask, query))
            elif isinstance(step, Hidden):
                masks.append(self._ranked(self._hiding(step, query), query))
            elif isinstance(step, Causal):
                masks.append(None)
        return scale, masks

    def _scaled(self, mask: Node | None, factor: float) -> Node | None:
        """A mask whose scores are scaled after it was added."""
        if mask is None or mask.meta["val"].dtype == torch.bool:
            return mask
        return self.emit(aten.mul.Tensor, mask, factor)

    def _hiding(self, step: Hidden, query: Node) -> Node:
        condition = step.condition
        if step.is_hidden:
            condition = self.emit(aten.logical_not.default, condition)
        if step.fill == float("-inf"):
            return condition
        # A finite fill replaces scores; the lowest number, added, absorbs them. So a row that is
        # hidden throughout has equal probabilities here too.
        return self._as_added(condition, query, torch.finfo(query.meta["val"].dtype).min)

    def _as_added(self, visible: Node, query: Node, fill: float = float("-inf")) -> Node:
        """A boolean mask as one to add: 0 or `fill`."""
        value = query.meta["val"]
        options = {"dtype": value.dtype, "device": value.device}
        zero, hidden = (self.emit(aten.full.default, [], x, **options) for x in (0.0, fill))
        return self.emit(aten.where.self, visible, zero, hidden)

    def _ranked(self, mask: Node, query: Node) -> Node:
        """A mask of at least two axes, and not of three."""
        while mask.meta["val"].dim() in (0, 1, 3):
            mask = self.emit(aten.unsqueeze.default, mask, 0)
        return mask

    def _joined(self, masks: list[Node | None], query: Node, key: Node) -> Node:
        """One mask that does what all of them do."""
        nodes = [mask or self.emit(visible_before, query, key) for mask in masks]
        if all(node.meta["val"].dtype == torch.bool for node in nodes):
            return self._folded(aten.logical_and.default, nodes)
        return self._folded(aten.add.Tensor, [self._number(node, query) for node in nodes])

    def _number(self, mask: Node, query: Node) -> Node:
        if mask.meta["val"].dtype == torch.bool:
            return self._as_added(mask, query)
        dtype = query.meta["val"].dtype
        is_ready = mask.meta["val"].dtype == dtype
        return mask if is_ready else self.emit(aten._to_copy.default, mask, dtype=dtype)

    def _folded(self, target: Callable[..., Any], nodes: list[Node]) -> Node:
        first, *rest = nodes
        for node in rest:
            first = self.emit(target, first, node)
        return first


FUSE_ATTENTION = Pass(
    name="fuse_attention",
    pattern=_pattern,
    condition=_condition,
    replacement=_replacement,
    reason="one kernel whose scores never reach memory",
    verified=True,
)
