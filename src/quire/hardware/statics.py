"""The part of a graph that does not depend on its inputs: weights and biases, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch.fx import GraphModule, Node

from quire.errors import HardwareError
from quire.formats import Encoded, Format, parse
from quire.ops.exact_value import Exact
from quire.precision.cast import as_blocks, cast
from quire.precision.exact import ExactInterpreter, before_rounding


class Statics:
    """The exact values of the nodes that read parameters, buffers and constants alone."""

    def __init__(self, graph: GraphModule) -> None:
        self._interpreter = ExactInterpreter(graph)
        self._values: dict[Node, Any] = {}
        with torch.no_grad():
            for node in graph.graph.nodes:
                if self._is_static(node):
                    self._values[node] = self._run(node)

    def __contains__(self, node: object) -> bool:
        return node in self._values

    def _is_static(self, node: Node) -> bool:
        if node.op in ("placeholder", "output"):
            return False
        return all(source in self._values for source in node.all_input_nodes)

    def _run(self, node: Node) -> Any:
        self._interpreter.env = self._values
        return self._interpreter.run_node(node)

    def fractions(self, node: Node) -> list[Fraction]:
        """Every element, in row-major order; HardwareError for NaN or Inf."""
        value = self._values[node]
        assert isinstance(value, Exact)
        if value.special is not None and bool((value.special != 0).any()):
            name = node.target if node.op == "get_attr" else node.name
            raise HardwareError(
                f"{name} holds NaN or Inf, which hardware does not decode: replace it, as "
                "torch.nan_to_num does"
            )
        return value.fractions()

    def encoded(self, node: Node) -> tuple[Format, torch.Tensor, Encoded]:
        """Format, values before rounding, and codes of a cast (of a tensor without one: fp32)."""
        source, name, axis, scale = cast_arguments(node)
        number_format = parse(name)
        value = self._values[source]
        assert isinstance(value, Exact)
        tensor = before_rounding(value, number_format)
        blocks, block_axis = as_blocks(tensor, axis)
        return number_format, tensor, number_format.encode(blocks, block_axis, scale=scale)


def cast_arguments(node: Node) -> tuple[Node, str, Any, Any]:
    """(source, format, axis, static scale) of a cast; any other node counts as one to fp32."""
    if node.target is not cast:
        return node, "fp32", -1, None
    names = ("x", "format", "axis", "scale")
    given: Sequence[Any] = node.args
    bound: dict[str, Any] = {
        "axis": -1,
        "scale": None,
        **dict(zip(names, given, strict=False)),
        **node.kwargs,
    }
    return bound["x"], bound["format"], bound["axis"], bound["scale"]
