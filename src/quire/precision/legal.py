"""Which formats a site may have: a rule for each place that does not take them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from quire.errors import PlanError
from quire.formats import Fixed, Format, UFixed
from quire.formats.base import Scalar
from quire.graph.sites import Site
from quire.precision.entry import SCALE, Entry, is_scale
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


def is_legal(site: Site, format: Format) -> bool:
    """Whether a site can have a format."""
    return rule_of(site).takes(format)


def suits(site: Site, format: Format) -> bool:
    """Whether a plan that does not name the site gives it this format.

    What only masks is left alone by formats without infinities, where a mask would saturate.
    """
    keeps_masks = isinstance(format, Scalar) and format.has_infinity
    return is_legal(site, format) and (site.role != "mask" or keeps_masks)


def check_legal(site: Site, entry: Entry) -> None:
    """Raise `PlanError` unless the site can have the format, axis, scale and corrections."""
    rule, rank = rule_of(site), len(site.shape)
    axes = (entry.axis,) if isinstance(entry.axis, int) else entry.axis or ()
    if not rule.takes(entry.format):
        problem = f"takes {rule.words}, not {entry.format}"
    elif not all(-rank <= axis < rank for axis in axes):
        problem = f"has the shape {site.shape}, and so no axis {entry.axis}"
    elif entry.axis is not None and not _is_run([axis % rank for axis in axes]):
        problem = f"has no axis {entry.axis}: several are ascending neighbours, such as (1, 2)"
    elif entry.scale is not None and not is_scale(entry.scale):
        problem = f"has scale={entry.scale!r}, which is {SCALE}"
    elif entry.scale is not None and not entry.format.is_block:
        problem = f"has the static scale {entry.scale}, but {entry.format} has no scale"
    else:
        problem = correction_problem(site, entry)
    if problem is None:
        return
    raise PlanError(f"{site.name}, {site.operand} of {site.op}, {problem}")


def _is_run(axes: Sequence[int]) -> bool:
    """Whether axes are ascending neighbours, which flatten into one."""
    return len(axes) > 0 and list(axes) == list(range(axes[0], axes[0] + len(axes)))
