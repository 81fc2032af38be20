"""Sums, differences, products and maxima, element by element, of two tensors or with a constant."""

from fractions import Fraction
from math import isfinite

import torch
from torch import Tensor

from quire.ops.base import Op, Operand, Role, Target, register
from quire.ops.exact_arithmetic import absolute, add, maximum, minimum, mul, neg, scale, sub
from quire.ops.exact_value import Exact, as_exact, fp32, in_float64, operand

aten = torch.ops.aten
Value = Exact | Tensor | float


def _two(role: Role, static: tuple[str, Role]) -> tuple[Operand, ...]:
    return tuple(
        Operand(name, arg, role, static=static) for arg, name in enumerate(("input", "other"))
    )


def _sum(target: Target, a: Value, b: Value, alpha: float = 1) -> Exact:
    return add(as_exact(a), scale(as_exact(b), fp32(alpha)))


def _difference(target: Target, a: Value, b: Value, alpha: float = 1) -> Exact:
    return sub(as_exact(a), scale(as_exact(b), fp32(alpha)))


def _reversed_difference(target: Target, a: Value, b: Value, alpha: float = 1) -> Exact:
    return _difference(target, b, a, alpha)


def _product(target: Target, a: Value, b: Value) -> Exact:
    """Of two tensors, operands as of a matrix product; with a number, of the exact value."""
    for x, number in ((a, b), (b, a)):
        if isinstance(number, int | float) and isfinite(number):
            return scale(as_exact(x), fp32(number))
    return mul(operand(as_exact(a)), operand(as_exact(b)))


def _quotient(target: Target, a: Value, b: Value) -> Exact:
    """By a number, an exact rational; by a tensor, a float."""
    if isinstance(b, int | float) and isfinite(b) and fp32(b) != 0:
        return scale(as_exact(a), 1 / Fraction(fp32(b)))
    return in_float64(target, a, b)


def _maximum(target: Target, a: Exact, b: Exact) -> Exact:
    return maximum(as_exact(a), as_exact(b))


def _minimum(target: Target, a: Exact, b: Exact) -> Exact:
    return minimum(as_exact(a), as_exact(b))


_SUM = _two("residual", ("bias", "bias"))
_PRODUCT = _two("activation", ("weight", "weight"))

ADD = register(Op("add", (aten.add.Tensor, aten.add.Scalar), _SUM, exact=_sum))
SUBTRACT = register(Op("sub", (aten.sub.Tensor, aten.sub.Scalar), _SUM, exact=_difference))
REVERSED_SUBTRACT = register(
    Op("rsub", (aten.rsub.Scalar, aten.rsub.Tensor), _SUM, exact=_reversed_difference)
)
MULTIPLY = register(Op("mul", (aten.mul.Tensor, aten.mul.Scalar), _PRODUCT, exact=_product))
DIVIDE = register(Op("div", (aten.div.Tensor, aten.div.Scalar), _PRODUCT, exact=_quotient))
MAXIMUM = register(Op("maximum", (aten.maximum.default,), _PRODUCT, exact=_maximum))
MINIMUM = register(Op("minimum", (aten.minimum.default,), _PRODUCT, exact=_minimum))
NEGATE = register(Op("neg", (aten.neg.default,), exact=lambda target, x: neg(x)))
ABSOLUTE = register(Op("abs", (aten.abs.default,), exact=lambda target, x: absolute(x)))
