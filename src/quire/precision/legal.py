"""Which formats a site may have: a rule for each place that does not take them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import torch

from quire.errors import FormatError, PlanError
from quire.formats import Block, Fixed, Format, UFixed
from quire.formats.base import Scalar
from quire.graph.sites import Site
from quire.precision.entry import SCALE, Entry, axis_of, is_scale
from quire.precision.settings import correction_problem


class Rule(NamedTuple):
    """The formats that a site takes, in words and as a predicate."""

    words: str
    takes: Callable[[Format], bool]


ANY = Rule("any format", lambda f: True)
SCALAR = Rule("a format without blocks", lambda f: not f.is_block)
# Softmax and norms are exact on fixed-point inputs (docs/numerics.md); keys are (role, operand).
RULES = {
    ("table", "table"): Rule(
        "ufixed(p+1,p) with p from 1 to 24",
        lambda f: isinstance(f, UFixed) and f.w == f.f + 1 and 1 <= f.f <= 24,
    ),
    ("softmax", "input"): Rule(
        "fixed(w,f) with w of at most 10", lambda f: isinstance(f, Fixed) and f.w <= 10
    ),
    ("norm", "input"): Rule("fixed(w,f)", lambda f: isinstance(f, Fixed)),
}


def rule_of(site: Site) -> Rule:
    """The rule for the formats of a site; a number without a shape has no blocks."""
    return RULES.get((site.role, site.operand), ANY if site.shape else SCALAR)


def legal_formats(site: Site) -> str:
    """The formats that a site takes, in words."""
    holds = "" if site.dtype in (None, torch.float32) else f" that fits {_name(site.dtype)}"
    return rule_of(site).words + holds


def is_legal(site: Site, entry: Entry | Format) -> bool:
    """Whether a site can have a format, or an entry."""
    return _problem(site, Entry.of(entry)) is None


def suits(site: Site, entry: Entry | Format) -> bool:
    """Whether a plan that does not name the site gives it this format with its corrections.

    What only masks is left alone by formats without infinities, where a mask would saturate.
    """
    entry = Entry.of(entry)
    keeps_masks = isinstance(entry.format, Scalar) and entry.format.has_infinity
    here = Entry(entry.format, corrections=entry.corrections)
    return is_legal(site, here) and (site.role != "mask" or keeps_masks)


def check_legal(site: Site, entry: Entry) -> None:
    """Raise `PlanError` unless the site can have the format, axis, scale and corrections."""
    problem = _problem(site, entry)
    if problem is not None:
        raise PlanError(f"{site.name}, {site.operand} of {site.op}, {problem}")


def _problem(site: Site, entry: Entry) -> str | None:
    """What is wrong with an entry for a site, as the end of a sentence, or None."""
    return next(filter(None, (check(site, entry) for check in _CHECKS)), None)


def _format_problem(site: Site, entry: Entry) -> str | None:
    rule = rule_of(site)
    return None if rule.takes(entry.format) else f"takes {rule.words}, not {entry.format}"


def _dtype_problem(site: Site, entry: Entry) -> str | None:
    return None if site.dtype is None else _misfit(entry.format, site.dtype)


@cache
def _misfit(format: Format, dtype: torch.dtype) -> str | None:
    """Why a format does not fit a dtype; kept because a search asks for it in every trial."""
    try:
        format.check_dtype(dtype)
    except FormatError as error:
        return f"is {_name(dtype)}: {error}"
    return None


def _axis_problem(site: Site, entry: Entry) -> str | None:
    rank = len(site.shape)
    given = axis_of(site, entry)
    axes = (given,) if isinstance(given, int) else given
    if entry.axis is not None:
        if not all(-rank <= axis < rank for axis in axes):
            return f"has the shape {site.shape}, and so no axis {given}"
        if not _is_run([axis % rank for axis in axes]):
            return f"has no axis {given}: several are ascending neighbours, such as (1, 2)"
    if not _has_rows(entry.format) or not {axis % rank for axis in axes} & {*site.batch_axes}:
        return None
    legal = [str(axis) for axis in range(rank) if axis not in site.batch_axes]
    return (
        f"has its batch along axis {given}, and no block of {entry.format} runs across examples; "
        f"legal axes: {', '.join(legal) or 'none, so take a format without blocks'}"
    )


def _scale_problem(site: Site, entry: Entry) -> str | None:
    if entry.scale is None:
        return None
    if not is_scale(entry.scale):
        return f"has scale={entry.scale!r}, which is {SCALE}"
    if not entry.format.is_block:
        return f"has the static scale {entry.scale}, but {entry.format} has no scale"
    return None


_CHECKS = (_format_problem, _dtype_problem, _axis_problem, _scale_problem, correction_problem)


def _has_rows(format: Format) -> bool:
    """Whether a format has blocks along an axis; one block for a whole tensor has none."""
    return isinstance(format, Block) and format.size != "tensor"


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def _is_run(axes: Sequence[int]) -> bool:
    """Whether axes are ascending neighbours, which flatten into one."""
    return len(axes) > 0 and list(axes) == list(range(axes[0], axes[0] + len(axes)))
