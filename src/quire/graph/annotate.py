"""Pass: give every node its type, its op and its module path."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from quire.graph.dataflow import Origin, origins
from quire.graph.paths import call_path
from quire.graph.types import float_type, infer_type
from quire.ops import op_for_target
from quire.ops.arithmetic import ADD
from quire.ops.mask import ADDED_MASK


def annotate(graph: GraphModule) -> tuple[str, ...]:
    """Set `quire_type`, `quire_op` and `quire_path` in the meta of the nodes.

    Returns the unknown ops, each as "module path: target". An op that only handles positions and
    masks is neither known nor unknown: no number that a format could round passes through it.
    """
    for node in graph.graph.nodes:
        annotate_node(node)
    unknown = [
        f"{node.meta['quire_path'] or '(root)'}: {node.target}"
        for node, origin in origins(graph).items()
        if _is_unknown(node, origin)
    ]
    return tuple(dict.fromkeys(unknown))


def annotate_node(node: Node) -> None:
    """Set `quire_type`, `quire_path` and, at the call of a known op, `quire_op`."""
    node.meta["quire_type"] = infer_type(node.meta.get("val"))
    node.meta["quire_path"] = call_path(node)
    target: Any = node.target
    owner = node.graph.owning_module
    if node.op == "call_module" and owner is not None:
        target = type(owner.get_submodule(target))
    op = op_for_target(target)
    if op is ADD and node.meta.get("quire_label") == "mask":
        op = ADDED_MASK
    if op is not None:
        node.meta["quire_op"] = op.name


def _is_unknown(node: Node, origin: Origin) -> bool:
    """Whether numbers pass through a call that is no known op."""
    if not node.op.startswith("call") or "quire_op" in node.meta or origin.is_index:
        return False
    makes_tensors = any(isinstance(v, torch.Tensor) for v in tree_leaves(node.meta.get("val")))
    touches_numbers = any(float_type(n) for n in (node, *node.all_input_nodes))
    return makes_tensors and touches_numbers
