"""What the value of each node is computed from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.fx import GraphModule, Node

from quire.graph.rewrite import attribute


@dataclass(frozen=True)
class Origin:
    """What a node depends on: inputs of the graph, numeric inputs, trainable parameters."""

    inputs: bool = False
    numbers: bool = False
    parameters: bool = False

    @property
    def is_static(self) -> bool:
        """The value is the same for every input: a weight, or computed from weights."""
        return not self.inputs

    @property
    def is_index(self) -> bool:
        """The value holds positions, masks or constants: neither data nor parameters enter."""
        return not (self.numbers or self.parameters)

    def __or__(self, other: Origin) -> Origin:
        return Origin(
            self.inputs or other.inputs,
            self.numbers or other.numbers,
            self.parameters or other.parameters,
        )


def origins(graph: GraphModule) -> dict[Node, Origin]:
    """The origin of every node."""
    found: dict[Node, Origin] = {}
    for node in graph.graph.nodes:
        origin = _own_origin(graph, node)
        for source in node.all_input_nodes:
            origin |= found[source]
        found[node] = origin
    return found


def _own_origin(graph: GraphModule, node: Node) -> Origin:
    if node.op == "placeholder":
        value = node.meta["val"]
        is_number = getattr(value, "dtype", None) is not None and value.is_floating_point()
        return Origin(inputs=True, numbers=is_number)
    if node.op == "get_attr":
        return Origin(parameters=isinstance(attribute(graph, str(node.target)), nn.Parameter))
    return Origin()
