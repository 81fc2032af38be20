"""Pass: a cast of values that have its format already is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from torch.fx import GraphModule, Node

from quire.formats import Block, Format, Scalar, parse
from quire.formats.carrier import INPUT_RANGES
from quire.formats.pow2 import Pow2
from quire.graph.rewrite import find
from quire.precision.cast import cast
from quire.software.passes.base import Match, Pass
from quire.software.passes.casts import Cast, cast_behind


def _pattern(graph: GraphModule) -> Iterator[Match]:
    for node in find(graph, cast):
        source = node.args[0]
        assert isinstance(source, Node)
        inner = cast_behind(source)
        if inner is not None or _holds(Cast.of(node).format, source.meta["val"].dtype):
            yield Match((node,), (source,), inner)


def _condition(graph: GraphModule, match: Match) -> str | None:
    (outer,) = match.outputs
    (source,) = match.inputs
    given = Cast.of(outer)
    if _holds(given.format, source.meta["val"].dtype):
        return None
    inner = Cast.of(match.found)
    if _contains(given.format, inner.format):
        return None
    if given != inner or source is not match.found:
        return f"a value of {inner} is not one of {given}"
    if _is_stable(given):
        return None
    return f"{given.format} has scales that move when its values are cast again"


@cache
def _holds(format: str, dtype: torch.dtype) -> bool:
    """Whether a format holds every number of a dtype; -0 alone would become +0."""
    found = parse(format)
    if not isinstance(found, Scalar) or not found.has_infinity:
        return False
    precision, largest, smallest = INPUT_RANGES[dtype]
    is_fine = found.precision >= precision and found.quantum_exponent <= smallest
    return is_fine and found.emax >= largest


@cache
def _contains(outer: str, inner: str) -> bool:
    """Whether every value of a scalar format is one of another."""
    first, second = parse(inner), parse(outer)
    if not isinstance(first, Scalar) or not isinstance(second, Scalar):
        return False
    if first == second:
        return True
    return first.bits <= LISTED and torch.equal(second.quantize(first.values()), first.values())


LISTED = 16
"""Bits of the widest format whose values are listed to compare two formats."""


def _is_stable(given: Cast) -> bool:
    """Whether a second cast gives what the first gave: docs/numerics.md, "Blocks"."""
    found: Format = parse(given.format)
    is_power = isinstance(found, Block) and isinstance(found.scale, Pow2)
    return given.scale is None and (is_power or not found.is_block)


def _replacement(graph: GraphModule, match: Match) -> tuple[Node, ...]:
    return match.inputs


DROP_CASTS = Pass(
    name="drop_casts",
    pattern=_pattern,
    condition=_condition,
    replacement=_replacement,
    reason="the values have this format already",
)
