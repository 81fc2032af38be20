"""Masking of attention scores: a masked score becomes minus infinity."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from quire.formats import Fixed, Format
from quire.ops.base import Op, Target, register
from quire.ops.exact_arithmetic import where
from quire.ops.exact_value import Exact, as_exact

aten = torch.ops.aten


MASKED = -4096.0
"""A score that stands for minus infinity: models mask by -inf, the lowest number of a dtype, -1e9
or -1e4; and beside a score in the range of a format its weight is 0 in every dtype."""


def causal_mask(scores: Tensor) -> Tensor:
    """`scores` (..., queries, keys) with -inf wherever the key comes after the query."""
    return scores.masked_fill(~_visible(scores), float("-inf"))


def mask_threshold(format: Format) -> float:
    """What scores at or below stand for minus infinity: `MASKED`, or less for a wide format."""
    return min(MASKED, 2 * format.lowest) if isinstance(format, Fixed) else MASKED


def keep_masked(rounded: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """`rounded`, the cast of `scores`, with -inf wherever the score is at most `threshold`.

    A fixed-point format cannot say that a score is masked, so its cast leaves the masked ones out.
    """
    return torch.where(scores <= threshold, float("-inf"), rounded)


def _visible(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()


def _causal(target: Target, scores: Exact) -> Exact:
    return where(_visible(scores.limbs[0]), scores, as_exact(float("-inf")))


def _keep_masked(target: Target, rounded: Exact, scores: Exact, threshold: float) -> Exact:
    masked = scores.to_sticky_float64() <= threshold
    return replace(where(masked, as_exact(float("-inf")), rounded), origin=rounded.origin)


def _select(target: Target, *args: Any) -> Exact:
    if target in _FILLS:
        other, condition, chosen = args
    else:
        condition, chosen, other = args
    return where(condition, as_exact(chosen), as_exact(other))


CAUSAL_MASK = register(Op(name="causal_mask", targets=(causal_mask,), exact=_causal))
KEEP_MASKED = register(Op(name="keep_masked", targets=(keep_masked,), exact=_keep_masked))
# A sum with a mask has the target of a sum; `name_attention` tells the two apart.
ADDED_MASK = register(Op(name="added_mask", targets=()))
_FILLS = (aten.masked_fill.Scalar, aten.masked_fill.Tensor)
_CHOICES = (aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf)
SELECT = register(Op(name="where", targets=(*_CHOICES, *_FILLS), exact=_select))
