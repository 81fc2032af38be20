"""A plan for one graph, from the forms in which a user may give it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

from torch.fx import GraphModule

from quire.errors import FormatError, PlanError
from quire.formats import Format, parse
from quire.graph.sites import Site, sites
from quire.precision import Plan
from quire.precision.entry import Entry, EntryLike
from quire.precision.legal import suits
from quire.precision.plan import load_entries

PlanLike: TypeAlias = "Plan | Mapping[str, EntryLike] | str | os.PathLike[str] | Format"
"""A plan, a mapping {site or pattern: format}, the path of a plan's file, or one format for every
operand of a product."""


def check_plan(plan: object) -> None:
    """Raise `PlanError` where something is in none of the forms of a plan."""
    if not isinstance(plan, Mapping | str | os.PathLike | Format):
        raise PlanError(
            f"plan={plan!r} is no plan: give a quire.Plan, {{site or pattern: format}}, the path of"
            " a plan's file, or one format"
        )


def plan_for(graph: GraphModule, plan: PlanLike, *, partial: bool = False) -> Plan:
    """The plan of a captured graph.

    partial: the graph is a part of a model; what is said of other parts is left out. Otherwise
        a name that the graph does not have is an error.

    Raises `PlanError`, also for a string that is neither a file nor a format.
    """
    if isinstance(plan, Plan) and not partial:
        return plan
    format = one_format(plan)
    if format is not None:
        return Plan.uniform(graph, format)
    entries = entries_of(plan)
    if partial:
        known = sites(graph)
        entries = {name: e for name, e in entries.items() if _concerns(name, e, known)}
    return Plan.from_patterns(graph, entries)


def one_format(plan: object) -> Format | None:
    """The format that stands for a whole plan, or None where the plan names sites or is a file.

    Raises `PlanError` for a string that is neither a file nor a format.
    """
    if isinstance(plan, str) and not _is_file(plan):
        try:
            return parse(plan)
        except FormatError as error:
            raise PlanError(f"plan={plan!r} is neither a file nor a format: {error}") from None
    return plan if isinstance(plan, Format) else None


def entries_of(plan: PlanLike) -> dict[str, Entry]:
    """{site or pattern: entry} of a plan that names them or is a file; raises `PlanError`."""
    if isinstance(plan, Mapping):
        return {name: Entry.of(value) for name, value in plan.items()}
    assert not isinstance(plan, Format), "one_format comes first"
    return load_entries(plan)


def _is_file(text: str) -> bool:
    return text.endswith(".json") or Path(text).is_file()


def _concerns(name: str, entry: Entry, known: Mapping[str, Site]) -> bool:
    """Whether an entry says something of one of the known sites."""
    if name in known:
        return True
    matched = (site for site in known.values() if fnmatchcase(site.name, name))
    return any(suits(site, entry) for site in matched)
