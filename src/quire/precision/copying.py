"""Copies of a graph, over the same parameters and buffers or with its own."""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node


def copy_graph(graph: GraphModule, *, share: bool = True) -> GraphModule:
    """A graph of its own, with modules of its own, over the same parameters and buffers.

    share: False copies the parameters and buffers too; what was tied stays tied.
    """
    new = GraphModule(graph, _copy_nodes(graph.graph), type(graph).__name__)
    for node in graph.graph.find_nodes(op="call_module"):
        path = str(node.target)
        new.set_submodule(path, copy.copy(graph.get_submodule(path)))
    _share_rest(graph, new)
    if not share:
        _own_tensors(new)
    new.meta = dict(graph.meta)
    new.train(graph.training)
    return new


def _copy_nodes(graph: Graph) -> Graph:
    """The nodes of a graph with meta of their own; how inputs and outputs are flattened is shared,
    because copying it warns (torch 2.13)."""
    new = Graph()
    result, output = cast("tuple[Any, Node]", new.graph_copy(graph, {}, return_output_node=True))
    new.output(result).meta = dict(output.meta)
    new.set_codegen(graph._codegen)  # pyright: ignore[reportPrivateUsage]
    return new


def _share_rest(graph: GraphModule, new: GraphModule) -> None:
    """Share what the nodes do not mention, too: a state dict has it."""
    modules = dict(new.named_modules())
    for path in dict(graph.named_modules()):  # those above first
        if path not in modules:
            new.add_submodule(path, nn.Module())
    for name, parameter in graph.named_parameters(remove_duplicate=False):
        owner, leaf = _owner(new, name)
        owner.register_parameter(leaf, parameter)
    persistent = graph.state_dict().keys()
    for name, buffer in graph.named_buffers(remove_duplicate=False):
        owner, leaf = _owner(new, name)
        if hasattr(owner, leaf):
            delattr(owner, leaf)
        owner.register_buffer(leaf, buffer, name in persistent)


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _own_tensors(module: nn.Module) -> None:
    for tensor in [*module.parameters(), *module.buffers()]:
        replace_tensor(module, tensor, copy.deepcopy(tensor))


def replace_tensor(module: nn.Module, old: Tensor, new: Tensor) -> None:
    """Put `new` in the place of a parameter or buffer, under all of its names."""
    held = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in held:
        if tensor is old:
            owner, leaf = _owner(module, name)
            setattr(owner, leaf, new)
