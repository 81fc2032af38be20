"""The inputs of a graph as plain data, from which examples are made to capture a model again."""

from __future__ import annotations

import inspect
from typing import Any, TypedDict

import torch
from torch.fx import GraphModule
from torch.fx._pytree import tree_flatten_spec

from quire.errors import CheckpointError
from quire.graph.types import type_of


class InputSpecs(TypedDict):
    """tensors: {name: [dtype, shape of an example of two]}; keywords: whether they are passed by
    name; dynamic_batch: whether the batch size is free."""

    tensors: dict[str, list[Any]]
    keywords: bool
    dynamic_batch: bool


def input_specs(graph: GraphModule) -> InputSpecs:
    """What a captured graph takes."""
    tensors: dict[str, list[Any]] = {}
    for node in graph.graph.find_nodes(op="placeholder"):
        found = type_of(node)
        dtype = str(node.meta["val"].dtype).removeprefix("torch.") if found else "none"
        shape = [] if found is None else [2 if isinstance(n, str) else n for n in found.shape]
        tensors[node.name] = [dtype, shape]
    keywords = bool(_in_spec(graph).child(1).num_leaves)
    return {
        "tensors": tensors,
        "keywords": keywords,
        "dynamic_batch": graph.meta["quire"].dynamic_batch,
    }


def flat_inputs(graph: GraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments of a call in the order of the placeholders, dicts by their keys.

    Raises TypeError, KeyError or ValueError where they are not what the graph takes.
    """
    bound = inspect.signature(graph.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    spec = _in_spec(graph)
    positional, keywords = spec.child(0).num_children, spec.child(1).context
    values = list(bound.arguments.values())
    named = dict(zip(keywords, values[positional:], strict=True))
    return tree_flatten_spec((tuple(values[:positional]), named), spec)


def _in_spec(graph: GraphModule) -> Any:
    codegen: Any = graph.graph._codegen  # pyright: ignore[reportPrivateUsage]
    return codegen.pytree_info.in_spec


def make_examples(specs: InputSpecs) -> tuple[torch.Tensor, ...] | dict[str, torch.Tensor]:
    """Tensors of zeros of those dtypes and shapes, as `capture` takes them."""
    tensors: dict[str, torch.Tensor] = {}
    for name, (dtype, shape) in specs["tensors"].items():
        if dtype == "none":
            raise CheckpointError(f"input {name} is not a tensor: give load() example_inputs")
        tensors[name] = torch.zeros(shape, dtype=getattr(torch, dtype))
    return tensors if specs["keywords"] else tuple(tensors.values())
