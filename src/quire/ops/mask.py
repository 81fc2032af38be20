"""Masking of attention scores: a masked score becomes minus infinity."""

import torch
from torch import Tensor

from quire.ops.base import Op, register

aten = torch.ops.aten


def causal_mask(scores: Tensor) -> Tensor:
    """`scores` (..., queries, keys) with -inf wherever the key comes after the query."""
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return scores.masked_fill(~visible, float("-inf"))


CAUSAL_MASK = register(Op(name="causal_mask", targets=(causal_mask,)))
# A sum with a mask has the target of a sum; `name_attention` tells the two apart.
ADDED_MASK = register(Op(name="added_mask", targets=()))
SELECT = register(
    Op(
        name="where",
        targets=(
            aten.where.self,
            aten.where.ScalarOther,
            aten.where.ScalarSelf,
            aten.masked_fill.Scalar,
            aten.masked_fill.Tensor,
        ),
    )
)
