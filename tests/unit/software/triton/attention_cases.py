"""Attention with casts against float64: the cases, and how far a result may lie from it."""

from typing import NamedTuple

import torch
from torch import Tensor

from quire.formats import parse
from quire.ops.mask import causal_mask
from quire.precision.cast import cast


class Case(NamedTuple):
    """Shapes: batch, heads, heads of keys, queries, keys, depth, width."""

    shape: tuple[int, int, int, int, int, int, int]
    formats: tuple[str | None, str | None, str | None, str | None]
    dtype: torch.dtype = torch.float32
    mask: str = "none"
    is_causal: bool = False


MXINT8 = ("mxint8",) * 4
CASES = [
    Case((1, 2, 2, 5, 5, 16, 16), MXINT8),
    Case((2, 2, 1, 70, 75, 20, 24), MXINT8, torch.bfloat16),
    Case((1, 1, 1, 70, 70, 32, 32), ("mxint6", "mxint6", "mxint8", "mxint4"), is_causal=True),
    Case(
        (1, 2, 2, 9, 40, 16, 16),
        ("bfp(8,scale_bits=8,size=16)", "fixed(8,4)", "ufixed(8,8)", "fp8_e4m3"),
        torch.float16,
        "boolean",
    ),
    Case(
        (1, 2, 2, 9, 140, 16, 16),
        (None, None, "block(fp8_e4m3,size=128,scale=pow2(8))", None),
        torch.float32,
        "added",
    ),
    Case(
        (1, 2, 2, 9, 140, 16, 16),
        ("mxfp8_e4m3", "mxfp6_e3m2", "bfp(8,scale_bits=4,size=16)", "mxfp8_e5m2"),
        torch.bfloat16,
        "added",
        is_causal=True,
    ),
    Case((1, 1, 1, 1, 100, 16, 16), (None, "mxint8", "mxfp4", "mxint8"), torch.float16, "added"),
]


def operands(case: Case, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Query, key (transposed in memory), value and mask; boolean masks hide a row throughout."""
    batch, heads, groups, queries, keys, depth, width = case.shape
    g = torch.Generator().manual_seed(seed)
    query = torch.randn(batch, heads, queries, depth, generator=g)
    key = torch.randn(batch, groups, depth, keys, generator=g).transpose(-2, -1)
    value = torch.randn(batch, groups, keys, width, generator=g)
    mask = None
    if case.mask == "boolean":
        mask = torch.rand(batch, 1, queries, keys, generator=g) > 0.4
        mask[0, 0, 3] = False
    elif case.mask == "added":
        mask = torch.randn(1, heads, 1, keys, generator=g)
        mask[..., 7] = -torch.inf
    query, key, value = (t.to(case.dtype) for t in (query, key, value))
    return query, key, value, mask


# What float32 may add to a probability: scores of exact products are right to about 2^-20, and the
# exponential of a difference of up to 2^4 to 2^-18.
RELATIVE = 2.0**-16


def probabilities(case: Case, query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """The softmax in float64, before its cast."""
    scores = query @ key.transpose(-2, -1) * case.shape[5] ** -0.5
    scores = causal_mask(scores) if case.is_causal else scores
    if mask is not None:
        hidden = mask.dtype == torch.bool
        scores = torch.where(mask, scores, -torch.inf) if hidden else scores + mask
    return torch.ops.aten._safe_softmax.default(scores, -1)


def assert_is_attention(case: Case, found: Tensor, operands: tuple) -> None:
    """`found` is what float64 gives, but for probabilities near a boundary of their rounding.

    Casts are monotone, so whatever a probability within `RELATIVE` becomes lies between the casts
    of the two ends of that interval; where those agree, as they mostly do, its code is the same.
    """
    query, key, value, mask = operands
    shared = case.shape[1] // case.shape[2]
    key, value = (t.double().repeat_interleave(shared, 1) for t in (key, value))
    query_format, key_format, format, value_format = case.formats
    query = cast(query.double(), query_format, -1) if query_format else query.double()
    key = cast(key, key_format, -1) if key_format else key
    value = cast(value, value_format, -2) if value_format else value
    exact = probabilities(case, query, key, mask)
    ends = [parse(format).quantize(exact * (1 + sign * RELATIVE)) for sign in (-1, 1)]
    middle = parse(format).quantize(exact)
    slack = torch.maximum((ends[1] - middle).abs(), (middle - ends[0]).abs())
    expected = middle @ value
    bound = slack @ value.abs()
    keys = value.shape[-2]
    bound += 2 * (keys + 2) * 2.0**-24 * (middle @ value.abs())
    bound += 0.5 * torch.finfo(case.dtype).eps * (expected.abs() + bound) * (1 + 2.0**-10)
    assert found.dtype == case.dtype
    assert bool(((found.double() - expected).abs() <= bound + 1e-30).all())
    # A bound is worth something where few probabilities are near a boundary.
    assert int((slack > 0).sum()) <= 3 + 0.02 * slack.numel()
