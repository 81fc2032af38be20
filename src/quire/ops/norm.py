"""Normalisations: layer norm, RMS norm, and batch norm with fixed statistics."""

import torch

from quire.formats import Fixed
from quire.ops.base import Axis, Op, Operand, Target, register
from quire.ops.exact_value import Exact, in_float64
from quire.ops.integer_functions import ROOT_BITS, layer_norm, rms_norm

aten = torch.ops.aten


def _operands(weight: int, bias: int | None, axis: Axis) -> tuple[Operand, ...]:
    edges = [Operand("input", 0, "norm", axis), Operand("weight", weight, "norm")]
    if bias is not None:
        edges.append(Operand("bias", bias, "norm"))
    return (*edges, Operand("output", None, "norm", axis))


def _layer_norm(
    target: Target,
    x: Exact,
    shape: list[int],
    weight: Exact | None = None,
    bias: Exact | None = None,
    epsilon: float = 1e-5,
    *options: object,
    root_bits: int = ROOT_BITS,
) -> Exact:
    format = x.format
    if not isinstance(format, Fixed):
        return in_float64(target, x, shape, weight, bias, epsilon)
    return layer_norm(x.codes(format.f), format.f, len(shape), weight, bias, epsilon, root_bits)


def _rms_norm(
    target: Target,
    x: Exact,
    shape: list[int],
    weight: Exact | None = None,
    epsilon: float | None = None,
    *,
    root_bits: int = ROOT_BITS,
) -> Exact:
    format = x.format
    epsilon = torch.finfo(torch.float32).eps if epsilon is None else epsilon
    if not isinstance(format, Fixed):
        return in_float64(target, x, shape, weight, epsilon)
    return rms_norm(x.codes(format.f), format.f, len(shape), weight, epsilon, root_bits)


LAYER_NORM = register(
    Op("layer_norm", (aten.layer_norm.default,), _operands(2, 3, -1), exact=_layer_norm)
)
RMS_NORM = register(
    Op("rms_norm", (aten.rms_norm.default,), _operands(2, None, -1), exact=_rms_norm)
)
BATCH_NORM = register(Op("batch_norm", (aten.batch_norm.default,), _operands(1, 2, 1)))
