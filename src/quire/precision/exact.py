"""`exact`: the bit-exact meaning of a quantized graph, the judge of every other executor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from quire.errors import QuireError
from quire.formats import Block, Format, Pow2, parse
from quire.graph.sites import check_captured
from quire.ops import Op, op_for_target
from quire.ops.exact_value import Exact, Origin, from_float, in_float64, nearest_float32
from quire.precision.cast import Axis, StaticScale, cast
from quire.precision.inputs import flat_inputs
from quire.precision.settings import SETTINGS
from quire.precision.switchable import Slot

FP32 = parse("fp32")
_WITHIN_FP32 = (torch.float32, torch.bfloat16, torch.float16)


def exact(graph: GraphModule) -> nn.Module:
    """The reference executor of a graph from `quantize` (or `capture`): only casts round.

    Returns a module that is called as the graph is and gives the graph's results as float32
    tensors. It computes without gradients, in evaluation mode. The rules: docs/numerics.md.
    Raises `CaptureError` for a module that is no captured graph, and `QuireError` for the graph of
    a `Switchable`, which rounds in slots, not in casts.
    """
    check_captured(graph)
    if any(isinstance(module, Slot) for module in graph.modules()):
        raise QuireError(
            "exact: this graph belongs to a Switchable, whose formats change from trial to trial; "
            "give exact() the graph of quantize(graph, plan)"
        )
    return ExactGraph(graph)


class ExactGraph(nn.Module):
    """A graph, executed by the exact meanings of its ops."""

    def __init__(self, graph: GraphModule) -> None:
        super().__init__()
        self.graph_module = graph

    def extra_repr(self) -> str:
        return "exact"

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        inputs = flat_inputs(self.graph_module, args, kwargs)
        interpreter = ExactInterpreter(self.graph_module)
        results = interpreter.run(*inputs, enable_io_processing=False)
        return self.graph_module.graph.process_outputs(results)


class ExactInterpreter(Interpreter):
    """Runs one node after another on exact values; indices, masks and sizes stay what they are."""

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        # The real values of a function are for one cast; several users read the rounded ones.
        is_real = isinstance(result, Exact) and result.origin is not None and result.format is None
        return replace(result, origin=None) if is_real and len(n.users) > 1 else result

    def fetch_args_kwargs_from_env(self, n: Node) -> tuple[Any, Any]:
        """The arguments of a call, and what the plan sets of its op besides."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return args, {**kwargs, **n.meta.get(SETTINGS, {})}

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        return pytree.tree_map(enter, super().placeholder(target, args, kwargs))

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return pytree.tree_map(enter, super().get_attr(target, args, kwargs))

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is cast:
            return exact_cast(*args, **kwargs)
        return evaluate(op_for_target(target), target, args, kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        return evaluate(op_for_target(type(module)), module, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        return evaluate(None, getattr(Tensor, target), args, kwargs)

    def output(self, target: Any, args: Any, kwargs: Any) -> Any:
        return pytree.tree_map(leave, super().output(target, args, kwargs))


def enter(value: Any) -> Any:
    """A floating-point tensor as exact values; anything else as it is."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    origin = Origin(FP32, value.double() + 0.0) if value.dtype in _WITHIN_FP32 else None
    return replace(from_float(value), origin=origin)


def leave(value: Any) -> Any:
    """A result of the graph: as its cast gave it, or rounded once to the nearest float32."""
    if not isinstance(value, Exact):
        return value
    if value.origin is not None and value.origin.format is not None:
        return nearest_float32(value.origin.emitted)
    return value.to_float32()


def evaluate(op: Op | None, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The exact meaning of a call; an unknown op runs in float32."""
    if not any(isinstance(leaf, Exact) for leaf in pytree.tree_leaves((args, kwargs))):
        return pytree.tree_map(enter, function(*args, **kwargs))
    if function is torch.ops.aten.sym_size.int:
        return args[0].shape[args[1]]
    if op is None:
        return _in_float32(function, args, kwargs)
    meaning = in_float64 if op.exact is None else op.exact
    return meaning(function, *args, **kwargs)


def _in_float32(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    args, kwargs = pytree.tree_map(
        lambda value: value.to_float32() if isinstance(value, Exact) else value, (args, kwargs)
    )
    return pytree.tree_map(enter, function(*args, **kwargs))


def exact_cast(x: Exact, format: str, axis: Axis = -1, scale: StaticScale = None) -> Exact:
    """The cast of exact values: every element is rounded once, from its exact value.

    A block with a real scale is defined by fp32 arithmetic, and takes the nearest fp32 first.
    """
    number_format = parse(format)
    emitted = cast(before_rounding(x, number_format), format, axis, scale).double()
    return replace(from_float(emitted), origin=Origin(number_format, emitted))


def before_rounding(x: Exact, format: Format) -> Tensor:
    if isinstance(format, Block) and not isinstance(format.scale, Pow2):
        return x.to_float32()
    is_real = x.origin is not None and x.origin.format is None
    if x.origin is not None and is_real and not format.is_block:
        return x.origin.emitted
    return x.to_sticky_float64()
