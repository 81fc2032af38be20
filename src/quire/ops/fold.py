"""The weight and bias of a product followed by a batch norm with fixed statistics."""

import torch
from torch import Tensor

from quire.ops.base import Op, register


def folded_weight(weight: Tensor, gamma: Tensor | None, variance: Tensor, epsilon: float) -> Tensor:
    """`weight * (gamma / sqrt(variance + epsilon))`, computed in float64, in the dtype of `weight`.

    weight: (out, ...); gamma (None is all ones) and variance: (out,).
    """
    factor = _factor(gamma, variance, epsilon).view(-1, *(1,) * (weight.dim() - 1))
    return (weight.double() * factor).to(weight.dtype)


def folded_bias(
    bias: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
) -> Tensor:
    """`(bias - mean) * (gamma / sqrt(variance + epsilon)) + beta`, computed in float64.

    In the dtype of `mean`. All are (out,); None is zeros, for gamma ones.
    """
    centred = -mean.double() if bias is None else bias.double() - mean.double()
    scaled = centred * _factor(gamma, variance, epsilon)
    return (scaled if beta is None else scaled + beta.double()).to(mean.dtype)


def _factor(gamma: Tensor | None, variance: Tensor, epsilon: float) -> Tensor:
    deviation = torch.sqrt(variance.double() + epsilon)
    return (torch.ones_like(deviation) if gamma is None else gamma.double()) / deviation


FOLDED_WEIGHT = register(Op(name="folded_weight", targets=(folded_weight,)))
FOLDED_BIAS = register(Op(name="folded_bias", targets=(folded_bias,)))
