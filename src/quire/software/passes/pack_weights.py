"""Pass: a linear layer whose weight is cast to MXInt or MXFP reads its codes and scales instead.

The packed weight is computed once (`quire.software.static`), in the layout that the device's
kernels take. For activations in bf16 and fp16, in which those kernels give their results.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from quire.errors import FormatError
from quire.graph.rewrite import arguments, copy_provenance, find, insert
from quire.precision.cast import cast
from quire.precision.constants import evaluate
from quire.software.kernels import LAYOUTS, PLAIN, Weight, case_of, select_layout
from quire.software.mx import ops
from quire.software.mx.layout import format_of
from quire.software.passes.base import Match, Pass, wants_gradients
from quire.software.passes.casts import Cast

aten = torch.ops.aten
DTYPES = (torch.bfloat16, torch.float16)


def packed(weight: Tensor, format: str, layout: str) -> tuple[Tensor, ...]:
    """The codes and scales of a weight (n, k), and what else the layout keeps for its rows.

    Raises `FormatError` where the layout does not hold the weight.
    """
    codes, scales = ops.mx_quantize(weight.detach(), format)
    found: Weight | None = Weight(codes, scales)
    if layout != PLAIN:
        fmt = format_of(format)
        found = LAYOUTS[layout].tile(Weight(codes, scales), fmt, weight.shape[1], weight.dtype)
    if found is None:
        raise FormatError(
            f"{format}: the layout {layout} does not hold this weight, such as for a NaN; call"
            " quire.compile again after such a write, which then takes the plain layout"
        )
    return tuple(part for part in found if part is not None)


def _pattern(graph: GraphModule) -> Iterator[Match]:
    for call in find(graph, aten.linear.default):
        x, weight = arguments(call)[:2]
        if weight.target is cast and _is_static(weight):
            yield Match((call,), (x,), weight)


def _is_static(node: Node) -> bool:
    if node.op == "get_attr":
        return True
    sources = node.all_input_nodes
    return node.op == "call_function" and bool(sources) and all(map(_is_static, sources))


def _condition(match: Match, graph: GraphModule, devices: Sequence[str]) -> str | None:
    value = match.outputs[0].meta["val"]
    given = Cast.of(match.found)
    if value.device.type not in devices:
        return f"packed weights are asked for on {', '.join(devices)}, not on {value.device.type}"
    if value.dtype not in DTYPES:
        return f"its result is {value.dtype}; kernels for packed weights give bfloat16 and float16"
    if wants_gradients(graph):
        return "the gradients need the weight itself"
    if given.scale is not None or given.axis not in (1, -1):
        return f"{given} is no cast along the rows of the weight"
    try:
        format_of(given.format)
    except FormatError as error:
        return str(error)
    return None


def _replacement(graph: GraphModule, match: Match) -> tuple[Node, ...]:
    (call,), node = match.outputs, match.found
    _, _, *bias = arguments(call)
    given, source = Cast.of(node), node.args[0]
    weight = evaluate(graph, source)
    layout = _layout(weight, given.format)
    with graph.graph.inserting_before(call):
        parts = graph.graph.call_function(packed, (source, given.format, layout))
        copy_provenance(parts, call)
        mode = call.meta["val"].fake_mode
        values = packed(weight, given.format, layout)
        parts.meta["val"] = tuple(mode.from_tensor(value) for value in values)
        codes, scales, *rest = (
            insert(graph.graph, call, operator.getitem, parts, index)
            for index in range(len(values))
        )
        return (_linear(graph, match, (codes, scales, rest[0] if rest else None), bias, layout),)


def _layout(weight: Tensor, format: str) -> str:
    """The name of the layout in which the weight's device holds it."""
    n, k = weight.shape
    found = select_layout(case_of(weight.device, format_of(format), 1, n, k, weight.dtype))
    if found is None:
        return PLAIN
    try:
        packed(weight, format, found.name)
    except FormatError:
        return PLAIN
    return found.name


def _linear(
    graph: GraphModule, match: Match, weight: tuple[Any, ...], bias: list[Any], layout: str
) -> Node:
    (call,), (x,) = match.outputs, match.inputs
    given, n = Cast.of(match.found), int(call.meta["val"].shape[-1])
    rest = (*bias, None)[:1]
    if layout == PLAIN:
        target = torch.ops.quire.mx_linear.default
        return insert(graph.graph, call, target, x, *weight[:2], *rest, given.format)
    target = torch.ops.quire.mx_linear_tiled.default
    return insert(graph.graph, call, target, x, *weight, *rest, given.format, layout, n)


def pack_weights(devices: Sequence[str]) -> Pass:
    """The pass for layers on the given types of device."""
    return Pass(
        name="pack_weights",
        pattern=_pattern,
        condition=lambda graph, match: _condition(match, graph, devices),
        replacement=_replacement,
        reason="the kernel reads codes and scales, a fraction of the weight",
    )


PACK_WEIGHTS = pack_weights(("cuda",))
