"""The exact graph that a simulation is compared with: whether it fits the design; its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from quire.errors import HardwareError
from quire.graph.types import type_of
from quire.hardware.nodes import sample_shape
from quire.hardware.stream import Stream
from quire.ops.exact_value import Exact
from quire.precision.exact import ExactInterpreter, exact, leave


def check_graph(graph: GraphModule, inputs: Sequence[Stream], outputs: Sequence[Stream]) -> None:
    """HardwareError unless a graph takes and gives samples of the shapes of a design."""
    exact(graph)  # refuses what is no graph of `quantize`
    taken = graph.graph.find_nodes(op="placeholder")
    given = [n for n in tree_leaves(graph.graph.output_node().args) if isinstance(n, Node)]
    for what, nodes, streams in (("takes", taken, inputs), ("gives", given, outputs)):
        shapes, wanted = [sample_shape(node) for node in nodes], [s.shape for s in streams]
        if shapes != wanted:
            raise HardwareError(
                f"the graph {what} samples of {_listed(shapes)}, and the design has "
                f"{_listed(wanted)}: give the graph that it was emitted from"
            )


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(f"({', '.join(map(str, shape))})" for shape in shapes)


def exact_outputs(graph: GraphModule, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What a graph gives for its inputs, both one after the other, however they are nested."""
    results = _run(ExactInterpreter(graph), graph, inputs)
    return [x for x in tree_leaves(results) if isinstance(x, Tensor)]


def unrounded_outputs(graph: GraphModule, inputs: Sequence[Tensor]) -> list[Exact]:
    """Likewise, as exact values, not as the float32 tensors that leave a graph."""
    return tree_leaves(_run(_Unrounded(graph), graph, inputs))


def node_values(graph: GraphModule, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """The exact value of each node, as it leaves the graph."""
    interpreter = _Keeping(graph)
    _run(interpreter, graph, inputs)
    return {node.name: leave(value) for node, value in interpreter.kept.items()}


def _run(interpreter: ExactInterpreter, graph: GraphModule, inputs: Sequence[Tensor]) -> Any:
    """The results of a graph, flat; an input of one number a sample may come as rows of one."""
    given: list[Tensor] = []
    for x, node in zip(inputs, graph.graph.find_nodes(op="placeholder"), strict=True):
        found = type_of(node)
        given.append(x if found is None else x.reshape(len(x), *found.example[1:]))
    with torch.no_grad():
        return interpreter.run(*given, enable_io_processing=False)


class _Unrounded(ExactInterpreter):
    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        return args[0]


class _Keeping(ExactInterpreter):
    """Keeps what every node gave."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__(graph)
        self.kept: dict[Node, Exact] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Exact):
            self.kept[n] = result
        return result
