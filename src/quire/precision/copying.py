"""Copies of a graph that share its parameters and buffers."""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import nn
from torch.fx import Graph, GraphModule, Node


def copy_graph(graph: GraphModule) -> GraphModule:
    """A graph of its own, with modules of its own, over the same parameters and buffers."""
    new = GraphModule(graph, _copy_nodes(graph.graph), type(graph).__name__)
    for node in graph.graph.find_nodes(op="call_module"):
        path = str(node.target)
        new.set_submodule(path, copy.copy(graph.get_submodule(path)))
    # GraphModule takes over what the graph mentions; a state dict needs the rest too.
    for path, module in graph.named_modules():
        if not _has_submodule(new, path):
            new.add_submodule(path, nn.Module())
        _share(module, new.get_submodule(path))
    new.meta = dict(graph.meta)
    new.train(graph.training)
    return new


def _copy_nodes(graph: Graph) -> Graph:
    """The nodes of a graph with meta of their own; how inputs and outputs are flattened is shared,
    because copying it warns (torch 2.13)."""
    new = Graph()
    result, output = cast("tuple[Any, Node]", new.graph_copy(graph, {}, return_output_node=True))
    new.output(result).meta = dict(output.meta)
    new.set_codegen(graph._codegen)
    return new


def _has_submodule(module: nn.Module, path: str) -> bool:
    return path in dict(module.named_modules())


def _share(module: nn.Module, new: nn.Module) -> None:
    """Give `new` the parameters and buffers of `module`, each as persistent as it was."""
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        new.register_parameter(name, parameter)
    for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
        if name in dict(new.named_buffers(recurse=False)):
            delattr(new, name)
        new.register_buffer(name, buffer, name not in module._non_persistent_buffers_set)
