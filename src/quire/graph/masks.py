"""Masks of attention: which tensors only hide scores, and which scores may be hidden."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from quire.ops import Op, op_for_target
from quire.ops.arithmetic import DIVIDE, MULTIPLY
from quire.ops.movement import MOVEMENT
from quire.ops.softmax import SOFTMAX

_SIZE = torch.ops.aten.sym_size.int


def only_masks(graph: GraphModule) -> set[Node]:
    """The nodes whose values end in the masks of attention, by way of no product, and nowhere else.

    After the pass `name_attention`.
    """
    found: set[Node] = set()
    for node in reversed(graph.graph.nodes):
        users = [user for user in node.users if user.target is not _SIZE]
        ends = [user in found or _hides(user, node) for user in users]
        if ends and all(ends) and not _is_product(op_for_target(node.target)):
            found.add(node)
    return found


def masked_softmaxes(graph: GraphModule) -> set[str]:
    """The names of the softmaxes whose scores may stand for minus infinity."""
    calls = (node for node in graph.graph.nodes if op_for_target(node.target) is SOFTMAX)
    return {node.name for node in calls if _may_be_masked(node.args[0])}


def _may_be_masked(scores: Node) -> bool:
    """Whether scores may stand for minus infinity; not where only scaling and data movement lie
    between them and the products that they are."""
    op = op_for_target(scores.target)
    if op in (MOVEMENT, MULTIPLY, DIVIDE):
        return any(_may_be_masked(source) for source in scores.all_input_nodes)
    return not _is_product(op)


def _hides(user: Node, node: Node) -> bool:
    """Whether `user` hides scores where `node` says."""
    return user.meta.get("quire_label") == "mask" and not _is_scores(node)


def _is_scores(node: Node) -> bool:
    while op_for_target(node.target) is MOVEMENT:
        node = node.all_input_nodes[0]
    return "quire_label" in node.meta


def _is_product(op: Op | None) -> bool:
    return op is not None and any(operand.is_operand for operand in op.operands)
