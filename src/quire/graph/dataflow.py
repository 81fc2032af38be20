"""What the value of each node is computed from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn
from torch.fx import GraphModule, Node

from quire.graph.masks import only_masks
from quire.graph.rewrite import attribute


@dataclass(frozen=True)
class Origin:
    """What a node depends on: inputs of the graph, numeric inputs, trainable parameters; and
    whether it is only for the masks of attention."""

    inputs: bool = False
    numbers: bool = False
    parameters: bool = False
    is_mask: bool = False

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
            self.is_mask,
        )


def origins(graph: GraphModule) -> dict[Node, Origin]:
    """The origin of every node."""
    found: dict[Node, Origin] = {}
    masks = only_masks(graph)
    for node in graph.graph.nodes:
        origin = replace(_own_origin(graph, node, node in masks), is_mask=node in masks)
        for source in node.all_input_nodes:
            origin |= found[source]
        found[node] = origin
    return found


def _own_origin(graph: GraphModule, node: Node, is_mask: bool) -> Origin:
    if node.op == "placeholder":
        value = node.meta["val"]
        is_number = getattr(value, "dtype", None) is not None and value.is_floating_point()
        return Origin(inputs=True, numbers=is_number and not is_mask)
    if node.op == "get_attr":
        return Origin(parameters=isinstance(attribute(graph, str(node.target)), nn.Parameter))
    return Origin()
