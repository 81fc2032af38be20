"""Whether a rewrite gives the values of what it replaces: both in float64, on example inputs.

In float64 the two agree to many digits if they mean the same, whatever they round in the model's
own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

TOLERANCE = 1e-9
"""Largest difference, in units of the largest value: float64 has 2^-53, and sums are short."""

Pair: TypeAlias = "tuple[tuple[Node, ...], tuple[Node, ...], tuple[Node, ...]]"
"""The inputs of what is rewritten, its outputs, and the nodes that shall stand for them."""


@torch.no_grad()
def differences(
    graph: GraphModule, pairs: Sequence[Pair], examples: Sequence[Any]
) -> list[str | None]:
    """For each pair how the new values differ from the old ones, or None."""
    regions = [_region(inputs, (*old, *new)) for inputs, old, new in pairs]
    wanted = {node for region in regions for node in _frontier(region)}
    values = _Recorder(graph, wanted).record(examples)
    return [
        _difference(_Float64(graph, region, values), old, new)
        for region, (_, old, new) in zip(regions, pairs, strict=True)
    ]


def _difference(
    evaluate: Callable[[Node], Any], old: tuple[Node, ...], new: tuple[Node, ...]
) -> str | None:
    for before, after in zip(old, new, strict=True):
        expected, found = evaluate(before), evaluate(after)
        if expected.shape != found.shape:
            return f"gives the shape {tuple(found.shape)}, not {tuple(expected.shape)}"
        largest = float(expected.nan_to_num(0, 0, 0).abs().max()) if expected.numel() else 0.0
        bound = TOLERANCE * max(largest, 1e-300)
        if not torch.allclose(found, expected, rtol=0, atol=bound, equal_nan=True):
            worst = float((found - expected).nan_to_num().abs().max())
            return f"gives other values on the example inputs: {worst:.2g} off, of {largest:.2g}"
    return None


def _region(inputs: tuple[Node, ...], outputs: tuple[Node, ...]) -> set[Node]:
    """The nodes on the ways from the inputs to the outputs, the inputs left out."""
    below = _closure(inputs, lambda node: node.users)
    above = _closure(outputs, lambda node: node.all_input_nodes)
    return ((below & above) | {*outputs}) - {*inputs}


def _closure(start: Iterable[Node], step: Callable[[Node], Iterable[Node]]) -> set[Node]:
    found: set[Node] = set()
    stack = list(start)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(step(node))
    return found


def _frontier(region: set[Node]) -> set[Node]:
    """What a region reads from outside."""
    return {source for node in region for source in node.all_input_nodes} - region


class _Recorder(Interpreter):
    """Runs a graph and keeps the values of some nodes."""

    def __init__(self, graph: GraphModule, wanted: set[Node]) -> None:
        super().__init__(graph)
        self._wanted = wanted
        self._values: dict[Node, Any] = {}

    def record(self, examples: Sequence[Any]) -> dict[Node, Any]:
        self.run(*examples, enable_io_processing=False)
        return self._values

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n in self._wanted:
            self._values[n] = value
        return value


class _Float64:
    """The values of a region's nodes, computed in float64 from recorded values."""

    def __init__(self, graph: GraphModule, region: set[Node], values: dict[Node, Any]) -> None:
        self._graph, self._region, self._recorded = graph, region, values
        self._values: dict[Node, Any] = {}

    def __call__(self, node: Node) -> Any:
        if node not in self._values:
            self._values[node] = self._compute(node)
        return self._values[node]

    def _compute(self, node: Node) -> Any:
        if node not in self._region:
            return pytree.tree_map(_widened, self._recorded[node])
        args, kwargs = map_arg((node.args, node.kwargs), self)
        if node.op == "call_module":
            return self._graph.get_submodule(str(node.target))(*args, **kwargs)
        target = cast("Callable[..., Any]", node.target)
        return target(*pytree.tree_map(_widened, args), **pytree.tree_map(_widened, kwargs))


def _widened(value: Any) -> Any:
    """A floating-point tensor, or the name of a floating-point dtype, in float64."""
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    is_float = isinstance(value, torch.dtype) and value.is_floating_point
    return torch.float64 if is_float else value
