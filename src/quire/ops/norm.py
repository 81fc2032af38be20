"""Normalisations: layer norm, RMS norm, and batch norm with fixed statistics."""

import torch

from quire.ops.base import Axis, Op, Operand, register

aten = torch.ops.aten


def _operands(weight: int, bias: int | None, axis: Axis) -> tuple[Operand, ...]:
    edges = [Operand("input", 0, "norm", axis), Operand("weight", weight, "norm")]
    if bias is not None:
        edges.append(Operand("bias", bias, "norm"))
    return (*edges, Operand("output", None, "norm", axis))


LAYER_NORM = register(Op("layer_norm", (aten.layer_norm.default,), _operands(2, 3, -1)))
RMS_NORM = register(Op("rms_norm", (aten.rms_norm.default,), _operands(2, None, -1)))
BATCH_NORM = register(Op("batch_norm", (aten.batch_norm.default,), _operands(1, 2, 1)))
