"""Table look-up by index."""

import torch
from torch import Tensor

from quire.ops.base import Op, Operand, Target, register
from quire.ops.exact_value import Exact


def _rows(target: Target, weight: Exact, indices: Tensor, *options: object) -> Exact:
    return weight.move(lambda t: t[indices])


EMBEDDING = register(
    Op(
        name="embedding",
        targets=(torch.ops.aten.embedding.default,),
        operands=(Operand("weight", 0, "weight", 1),),
        exact=_rows,
    )
)
