"""Sums, differences, products and maxima, element by element, of two tensors or with a constant."""

import torch

from quire.ops.base import Op, Operand, Role, register

aten = torch.ops.aten


def _two(role: Role, static: tuple[str, Role]) -> tuple[Operand, ...]:
    return tuple(
        Operand(name, arg, role, static=static) for arg, name in enumerate(("input", "other"))
    )


_SUM = _two("residual", ("bias", "bias"))
_PRODUCT = _two("activation", ("weight", "weight"))

ADD = register(Op("add", (aten.add.Tensor, aten.add.Scalar), _SUM))
SUBTRACT = register(Op("sub", (aten.sub.Tensor, aten.sub.Scalar), _SUM))
REVERSED_SUBTRACT = register(Op("rsub", (aten.rsub.Scalar, aten.rsub.Tensor), _SUM))
MULTIPLY = register(Op("mul", (aten.mul.Tensor, aten.mul.Scalar), _PRODUCT))
DIVIDE = register(Op("div", (aten.div.Tensor, aten.div.Scalar), _PRODUCT))
MAXIMUM = register(Op("maximum", (aten.maximum.default,), _PRODUCT))
MINIMUM = register(Op("minimum", (aten.minimum.default,), _PRODUCT))
NEGATE = register(Op("neg", (aten.neg.default,)))
ABSOLUTE = register(Op("abs", (aten.abs.default,)))
