"""Pass: give every node its type, its op and its module path."""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from quire.graph.dataflow import Origin, origins
from quire.graph.paths import call_path
from quire.graph.rewrite import attribute
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
        node.meta["quire_type"] = infer_type(node.meta.get("val"))
        node.meta["quire_path"] = call_path(node)
    unknown = [_annotate_op(graph, node, origin) for node, origin in origins(graph).items()]
    return tuple(dict.fromkeys(name for name in unknown if name))


def _annotate_op(graph: GraphModule, node: Node, origin: Origin) -> str:
    """Set the op of `node`; the description of the op if it is unknown, else ""."""
    if node.op not in ("call_function", "call_module"):
        return ""
    target = type(attribute(graph, str(node.target))) if node.op == "call_module" else node.target
    op = op_for_target(target)
    if op is ADD and node.meta.get("quire_label") == "mask":
        op = ADDED_MASK
    if op is not None:
        node.meta["quire_op"] = op.name
        return ""
    makes_tensors = any(isinstance(v, torch.Tensor) for v in tree_leaves(node.meta.get("val")))
    touches_numbers = any(float_type(n) for n in (node, *node.all_input_nodes))
    if origin.is_index or not (makes_tensors and touches_numbers):
        return ""
    return f"{node.meta['quire_path'] or '(root)'}: {node.target}"
