"""Pass: recognise the two products of attention, its scale and its mask, and label them.

`node.meta["quire_label"]` is "qk", "scale", "mask" or "pv": the readable part of a site's name.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.fx import GraphModule, Node

from quire.graph.rewrite import find
from quire.ops.arithmetic import ADD, DIVIDE, MULTIPLY
from quire.ops.mask import CAUSAL_MASK, SELECT
from quire.ops.matmul import MATMUL
from quire.ops.movement import MOVEMENT
from quire.ops.softmax import SOFTMAX

_SCALES = (*MULTIPLY.targets, *DIVIDE.targets)
_MASKS = (*ADD.targets, *SELECT.targets, *CAUSAL_MASK.targets)


def name_attention(graph: GraphModule) -> None:
    """Label the products, scales and masks around every softmax between two products."""
    for softmax in find(graph, *SOFTMAX.targets):
        path = _path_to_product(softmax)
        consumer = _consumer(softmax)
        if path is None or consumer is None:
            continue
        consumer.meta["quire_label"] = "pv"
        for node in path:
            node.meta["quire_label"] = _label(node)


def _label(node: Node) -> str:
    if node.target in MATMUL.targets:
        return "qk"
    return "scale" if node.target in _SCALES else "mask"


def _path_to_product(node: Node) -> list[Node] | None:
    """The scales and masks from `node` up to the product that feeds it, and that product."""
    for source in node.all_input_nodes:
        if source.target in MATMUL.targets:
            return [source]
        if source.target in MOVEMENT.targets:
            path = _path_to_product(source)
        elif source.target in (*_SCALES, *_MASKS):
            path = _path_to_product(source)
            path = None if path is None else [source, *path]
        else:
            path = None
        if path is not None:
            return path
    return None


def _consumer(node: Node) -> Node | None:
    """The product whose first operand is `node`, moved or not, with or without dropout."""
    for user in _through_movement(node):
        if user.target in MATMUL.targets:
            return user
    return None


def _through_movement(node: Node) -> Iterator[Node]:
    for user in node.users:
        if user.op == "call_module" or user.target in MOVEMENT.targets:
            yield from _through_movement(user)
        elif user.args and user.args[0] is node:
            yield user
