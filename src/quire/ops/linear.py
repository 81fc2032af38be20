"""Linear layers: a product with a weight, and a bias in the same sum."""

from collections.abc import Sequence
from math import prod

import torch

from quire.ops.base import Op, Operand, Shape, register, result_times_inner

aten = torch.ops.aten


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
    )
)
