"""The inputs of a graph as plain data, from which examples are made to capture a model again."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from torch.fx import GraphModule, Node
from torch.fx._pytree import tree_flatten_spec
from torch.utils import _pytree as pytree

from quire.errors import CheckpointError
from quire.graph.types import type_of
from quire.precision.container import TensorSpec


class InputSpecs(TypedDict):
    """examples: the example inputs as JSON; dynamic_batch: whether the batch size is free.

    In `examples` a tensor is {"tensor": [dtype, shape of an example of two]}, a tuple {"tuple":
    [...]}, a dict {"dict": {...}}, what no JSON holds {"other": its type}; the rest stands for
    itself.
    """

    examples: Any
    dynamic_batch: bool


def input_specs(graph: GraphModule) -> InputSpecs:
    """What a captured graph takes."""
    leaves = [_leaf(node) for node in graph.graph.find_nodes(op="placeholder")]
    args, kwargs = pytree.tree_unflatten(leaves, _in_spec(graph))
    return {
        "examples": _to_json(kwargs or args),
        "dynamic_batch": graph.meta["quire"].dynamic_batch,
    }


def input_names(graph: GraphModule) -> list[str]:
    """The names of the inputs; those inside of others by their place, `batch_x` for batch["x"]."""
    return [node.name for node in graph.graph.find_nodes(op="placeholder")]


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


def leaves(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
    """Everything inside of the arguments of a call; at once where they are tensors by position."""
    if not kwargs and all(isinstance(x, torch.Tensor) for x in args):
        return args
    return pytree.tree_leaves((args, kwargs))


def make_examples(specs: InputSpecs) -> Any:
    """Inputs like those of the capture, tensors of zeros, as `capture` takes them."""
    return _from_json(specs["examples"])


def _in_spec(graph: GraphModule) -> Any:
    codegen: Any = graph.graph._codegen  # pyright: ignore[reportPrivateUsage]
    return codegen.pytree_info.in_spec


def _leaf(node: Node) -> Any:
    """What stands for an input: the spec of a tensor, or the value that capture made constant."""
    found = type_of(node)
    if found is None:
        return node.meta["val"]
    shape = tuple(2 if isinstance(size, str) else size for size in found.shape)
    return TensorSpec(node.meta["val"].dtype, shape)


def _to_json(value: Any) -> Any:
    if isinstance(value, TensorSpec):
        return {"tensor": [str(value.dtype).removeprefix("torch."), list(value.shape)]}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [_to_json(item) for item in value]
    if type(value) is tuple:
        return {"tuple": [_to_json(item) for item in value]}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": {key: _to_json(item) for key, item in value.items()}}
    return {"other": type(value).__name__}


def _from_json(data: Any) -> Any:
    match data:
        case list():
            return [_from_json(item) for item in data]
        case {"tensor": [dtype, shape]}:
            return torch.zeros(shape, dtype=getattr(torch, dtype))
        case {"tuple": items}:
            return tuple(_from_json(item) for item in items)
        case {"dict": items}:
            return {key: _from_json(item) for key, item in items.items()}
        case {"other": name}:
            raise CheckpointError(f"an input holds a {name}: give load() example_inputs")
        case _:
            return data
