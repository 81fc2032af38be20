"""Linear layers: a product with a weight, and a bias in the same sum."""

from collections.abc import Sequence
from math import prod

import torch

from quire.ops.base import Op, Operand, Shape, Target, register, result_times_inner
from quire.ops.exact_arithmetic import add, linear, matmul, scale
from quire.ops.exact_value import Exact, fp32, operand

aten = torch.ops.aten


def _linear(target: Target, x: Exact, weight: Exact, bias: Exact | None = None) -> Exact:
    return linear(operand(x), operand(weight), bias)


def _sum_of_products(
    target: Target, bias: Exact, a: Exact, b: Exact, beta: float = 1, alpha: float = 1
) -> Exact:
    product = matmul(operand(a), operand(b))
    return add(scale(bias, fp32(beta)), scale(product, fp32(alpha)))


def _addmm_macs(output: Shape, inputs: Sequence[Shape]) -> int:
    return prod(output) * inputs[1][-1]


LINEAR = register(
    Op(
        name="linear",
        targets=(aten.linear.default,),
        operands=(
            Operand("input", 0, "activation", -1, is_operand=True),
            Operand("weight", 1, "activation", 1, is_operand=True, static=("weight", "weight")),
            Operand("bias", 2, "bias"),
        ),
        macs=result_times_inner,
        exact=_linear,
    )
)

ADDMM = register(
    Op(
        name="addmm",
        targets=(aten.addmm.default,),
        operands=(
            Operand("input", 1, "activation", -1, is_operand=True),
            Operand("weight", 2, "activation", 0, is_operand=True, static=("weight", "weight")),
            Operand("bias", 0, "bias"),
        ),
        macs=_addmm_macs,
        exact=_sum_of_products,
    )
)

BADDBMM = register(
    Op(
        name="baddbmm",
        targets=(aten.baddbmm.default,),
        operands=(
            Operand("input", 1, "activation", -1, is_operand=True),
            Operand("other", 2, "activation", -2, is_operand=True, static=("weight", "weight")),
            Operand("bias", 0, "bias"),
        ),
        macs=_addmm_macs,
        exact=_sum_of_products,
    )
)
