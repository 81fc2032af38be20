"""Masking of attention scores: a masked score becomes minus infinity."""

from typing import Any

import torch
from torch import Tensor

from quire.ops.base import Op, Target, register
from quire.ops.exact_value import Exact, as_exact, where

aten = torch.ops.aten


def causal_mask(scores: Tensor) -> Tensor:
    """`scores` (..., queries, keys) with -inf wherever the key comes after the query."""
    return scores.masked_fill(~_visible(scores), float("-inf"))


def _visible(scores: Tensor) -> Tensor:
    return torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()


def _causal(target: Target, scores: Exact) -> Exact:
    return where(_visible(scores.limbs[0]), scores, as_exact(float("-inf")))


def _select(target: Target, *args: Any) -> Exact:
    if target in _FILLS:
        other, condition, chosen = args
    else:
        condition, chosen, other = args
    return where(condition, as_exact(chosen), as_exact(other))


CAUSAL_MASK = register(Op(name="causal_mask", targets=(causal_mask,), exact=_causal))
# A sum with a mask has the target of a sum; `name_attention` tells the two apart.
ADDED_MASK = register(Op(name="added_mask", targets=()))
_FILLS = (aten.masked_fill.Scalar, aten.masked_fill.Tensor)
_CHOICES = (aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf)
SELECT = register(Op(name="where", targets=(*_CHOICES, *_FILLS), exact=_select))
