"""Table look-up by index."""

import torch

from quire.ops.base import Op, Operand, register

EMBEDDING = register(
    Op(
        name="embedding",
        targets=(torch.ops.aten.embedding.default,),
        operands=(Operand("weight", 0, "weight", 1),),
    )
)
