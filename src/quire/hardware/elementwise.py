"""Sums, differences and products, element by element: of two streams, or of one and a number."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import isfinite
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from quire.errors import HardwareError
from quire.hardware import cells
from quire.hardware.nodes import op_name
from quire.hardware.stage import Net
from quire.hardware.stream import Stream
from quire.ops import op_of
from quire.ops.exact_value import fp32

if TYPE_CHECKING:
    from quire.hardware.lower import Lowering

FACTORS: dict[str, Callable[[Fraction], tuple[Fraction, Fraction]]] = {
    "add": lambda alpha: (Fraction(1), alpha),
    "sub": lambda alpha: (Fraction(1), -alpha),
    "rsub": lambda alpha: (-alpha, Fraction(1)),
}
"""By what each op of a sum multiplies its two arguments, for its option alpha."""


def weighted_sum(self: Lowering, node: Node) -> Net:
    """`add`, `sub` and `rsub`, of two activations or of one and a number, with any alpha."""
    a, b, *rest = node.args
    alpha = _number(rest[0] if rest else node.kwargs.get("alpha", 1))
    assert alpha is not None
    factors = FACTORS[_op(node)](alpha)
    numbers = _number(a), _number(b)
    if numbers[0] is not None:
        return _affine(self, node, b, factors[1], numbers[0] * factors[0])
    if numbers[1] is not None:
        return _affine(self, node, a, factors[0], numbers[1] * factors[1])
    nets = _joined(self, node)
    return cells.add(*(cells.scaled(net, by) for net, by in zip(nets, factors, strict=True)))


def product(self: Lowering, node: Node) -> Net:
    """`mul`, of two activations or of one and a number."""
    a, b = node.args
    for x, number in ((a, _number(b)), (b, _number(a))):
        if number is not None:
            return _affine(self, node, x, number, Fraction(0))
    return cells.multiply(*_joined(self, node))


def quotient(self: Lowering, node: Node) -> Net:
    """`div`, by a power of two."""
    a, b, *_ = node.args
    number = _number(b)
    if not number:
        raise HardwareError(f"a division by {b} has no hardware: one by a power of two has")
    reciprocal = 1 / number
    if reciprocal.denominator & (reciprocal.denominator - 1):
        raise HardwareError(
            f"a division by {b} has no hardware, as one by a power of two has: multiply by "
            f"{float(reciprocal)} in the model"
        )
    return _affine(self, node, a, reciprocal, Fraction(0))


def negation(self: Lowering, node: Node) -> Net:
    """`neg`."""
    return _affine(self, node, node.args[0], Fraction(-1), Fraction(0))


def _op(node: Node) -> str:
    op = op_of(node)
    assert op is not None
    return op.name


def _number(value: Any) -> Fraction | None:
    """A number as `exact` takes it, rounded to fp32; None for a tensor."""
    if isinstance(value, Node):
        return None
    if not isfinite(value) or not isfinite(fp32(value)):
        raise HardwareError(f"the constant {value} has no hardware: a number is finite in fp32")
    return Fraction(fp32(value))


def _affine(self: Lowering, node: Node, source: Any, factor: Fraction, offset: Fraction) -> Net:
    """factor * source + offset; what takes logic begins a stage, behind a register."""
    if not isinstance(source, Node) or source in self.statics:
        raise HardwareError(_LEGAL)
    if cells.is_shift(factor) and not offset:
        net = self.open(source, op_name(node), _op(node))
    else:
        net = self.builder(op_name(node), _op(node)).read(self.stream(source))
    net = cells.scaled(net, factor)
    return cells.add(net, cells.constant(net, offset)) if offset else net


def _joined(self: Lowering, node: Node) -> list[Net]:
    """The two activations of an op, aligned and joined."""
    sources = [a for a in node.args[:2] if isinstance(a, Node) and a not in self.statics]
    if len(sources) != 2:
        raise HardwareError(_LEGAL)
    streams = [self.stream(source) for source in sources]
    if streams[0].shape != streams[1].shape:
        shapes = " and ".join(str(s.shape) for s in streams)
        raise HardwareError(f"shapes {shapes} differ: hardware does not broadcast")
    streams = self.balanced(streams, _common_lanes(streams))
    builder = self.builder(op_name(node), _op(node))
    return cells.join([builder.read(stream) for stream in streams])


_LEGAL = (
    "hardware adds and multiplies two activations of one shape, or an activation and a number; "
    "one of these is a tensor of constants"
)


def _common_lanes(streams: list[Stream]) -> int:
    """The most lanes that streams of one shape can all have, of no more than they have."""
    most = min(s.lanes for s in streams)
    legal = [set(cells.lane_choices(s.values, s.row)) for s in streams]
    return max(n for n in set.intersection(*legal) if n <= most)
