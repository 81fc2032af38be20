"""Pooling, and means over axes."""

import torch

from quire.ops.base import Op, Operand, register

aten = torch.ops.aten
_INPUT = (Operand("input", 0, "activation"),)

MAX_POOL = register(
    Op(
        name="max_pool",
        targets=(
            aten.max_pool1d.default,
            aten.max_pool2d.default,
            aten.adaptive_max_pool1d.default,
            aten.adaptive_max_pool2d.default,
        ),
    )
)
AVERAGE_POOL = register(
    Op(
        name="average_pool",
        targets=(aten.avg_pool1d.default, aten.avg_pool2d.default),
        operands=_INPUT,
    )
)
ADAPTIVE_AVERAGE_POOL = register(
    Op(
        name="adaptive_average_pool",
        targets=(aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default),
        operands=_INPUT,
    )
)
MEAN = register(Op("mean", (aten.mean.dim, aten.mean.default), _INPUT))
SUM = register(Op("sum", (aten.sum.dim_IntList, aten.sum.default), _INPUT))
