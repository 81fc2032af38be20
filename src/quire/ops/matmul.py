"""Matrix products of two tensors, batched or not."""

import torch

from quire.ops.base import Op, Operand, Target, register, result_times_inner
from quire.ops.exact_arithmetic import matmul
from quire.ops.exact_value import Exact, operand

aten = torch.ops.aten


def _product(target: Target, a: Exact, b: Exact) -> Exact:
    return matmul(operand(a), operand(b))


MATMUL = register(
    Op(
        name="matmul",
        targets=(
            aten.matmul.default,
            aten.mm.default,
            aten.bmm.default,
            aten.mv.default,
            aten.dot.default,
        ),
        operands=(
            Operand("input", 0, "activation", -1, is_operand=True, static=("weight", "weight")),
            Operand("other", 1, "activation", -2, is_operand=True, static=("weight", "weight")),
        ),
        macs=result_times_inner,
        exact=_product,
    )
)
