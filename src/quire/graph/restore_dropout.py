"""Pass: dropout, which export freezes, becomes a module that follows `train()` and `eval()`."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx import GraphModule, Node

from quire.graph.paths import module_path
from quire.graph.rewrite import arguments, copy_provenance, replace

aten = torch.ops.aten


def mark_dropout(graph: GraphModule) -> None:
    """Note the probability of each dropout, which decomposition would lose, where it survives."""
    for node in graph.graph.find_nodes(op="call_function", target=aten.dropout.default):
        node.meta["custom"] = {"dropout": node.args[1]}


def restore_dropout(graph: GraphModule) -> None:
    """Replace what each marked dropout became, a copy, by an `nn.Dropout`."""
    for node in list(graph.graph.nodes):
        probability = node.meta.get("custom", {}).get("dropout")
        if probability is not None and node.target is aten.clone.default:
            with graph.graph.inserting_before(node):
                replace(node, insert_dropout(graph, node, arguments(node)[0], probability))


def insert_dropout(graph: GraphModule, like: Node, x: Node, probability: float) -> Node:
    """A dropout of `x` at the insertion point, in a module named by the path of `like`."""
    name = f"{module_path(like)}.dropout".lstrip(".")
    taken = dict(graph.named_modules())
    index = sum(other == name or other.startswith(f"{name}_") for other in taken)
    name = f"{name}_{index}" if index else name
    graph.add_submodule(name, nn.Dropout(probability))
    node = graph.graph.call_module(name, (x,))
    copy_provenance(node, like)
    node.meta["val"] = x.meta["val"]
    return node
