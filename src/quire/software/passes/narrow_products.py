"""Pass: a linear layer whose operands bf16 holds exactly runs with bf16 operands.

The products of two such numbers are exact in fp32, in which they are summed as before; only the
order of the sum may differ. The conversion to bf16 is part of the kernel that casts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.nn import functional

from quire.formats import Block, Format, parse
from quire.formats.carrier import INPUT_RANGES
from quire.formats.pow2 import Pow2
from quire.graph.rewrite import arguments, find, insert
from quire.software.passes.base import Match, Pass, wants_gradients
from quire.software.passes.casts import cast_behind

aten = torch.ops.aten


def to_bf16(x: Tensor) -> Tensor:
    """`x` in bfloat16."""
    return x.to(torch.bfloat16)


def linear_in_bf16(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`linear(x, weight, bias)` in x's dtype, with products of bf16 operands.

    x: (..., in), float32, of values that bf16 holds. weight: (out, in), bfloat16.
    """
    narrow = to_bf16(x)
    if not x.is_cuda or x.dtype != torch.float32:
        return functional.linear(narrow.to(x.dtype), weight.to(x.dtype), bias)
    rows = torch.mm(narrow.reshape(-1, x.shape[-1]), weight.t(), out_dtype=torch.float32)
    result = rows.reshape(*x.shape[:-1], rows.shape[-1])
    return result if bias is None else result + bias


def fits_bf16(format: Format) -> str | None:
    """Why bf16 does not hold every value of a format, or None."""
    precision, largest, smallest = INPUT_RANGES[torch.bfloat16]
    element: Any = format.element if isinstance(format, Block) else format
    lowest, highest = element.quantum_exponent, element.emax
    if isinstance(format, Block):
        if not isinstance(format.scale, Pow2):
            return f"values of {format} are products with its scales, which are rounded"
        # The largest value of a block has the exponent of the largest of the data, which is one
        # of float32 and so of bf16.
        lowest, highest = lowest + format.scale.smallest_exponent, largest
    if element.precision > precision:
        return f"{format} has {element.precision} significant bits, bf16 has {precision}"
    if highest > largest or lowest < smallest:
        return f"{format} reaches beyond the range of bf16 (2^{smallest} to 2^{largest})"
    return None


def _pattern(graph: GraphModule) -> Iterator[Match]:
    for call in find(graph, aten.linear.default):
        casts = [cast_behind(operand) for operand in arguments(call)[:2]]
        if all(casts) and call.meta["val"].dtype == torch.float32:
            yield Match((call,), arguments(call)[:2], casts)


def _replacement(graph: GraphModule, match: Match) -> tuple[Node, ...]:
    (call,) = match.outputs
    x, weight, *bias = arguments(call)
    with graph.graph.inserting_before(call):
        narrow = insert(graph.graph, call, to_bf16, weight)
        return (insert(graph.graph, call, linear_in_bf16, x, narrow, *bias),)


def narrow_products(devices: Sequence[str]) -> Pass:
    """The pass for products on the given types of device."""

    def condition(graph: GraphModule, match: Match) -> str | None:
        (call,) = match.outputs
        device = call.meta["val"].device.type
        if device not in devices:
            return f"bf16 products are asked for on {', '.join(devices)}, not on {device}"
        if wants_gradients(graph):
            return "the gradients need products of their own"
        problems = (fits_bf16(parse(str(node.args[1]))) for node in match.found)
        return next(filter(None, problems), None)

    return Pass(
        name="narrow_products",
        pattern=_pattern,
        condition=condition,
        replacement=_replacement,
        reason="both operands are exact in bf16",
        verified=True,
    )


NARROW_PRODUCTS = narrow_products(("cuda",))
