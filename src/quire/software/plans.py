"""A plan for one graph, from the forms in which a user may give it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias

from torch.fx import GraphModule

from quire.errors import PlanError
from quire.formats import Format, parse
from quire.graph.sites import Site, sites
from quire.precision import Plan
from quire.precision.entry import Entry, EntryLike
from quire.precision.legal import suits
from quire.precision.plan import read_entries

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
    if isinstance(plan, Format) or (isinstance(plan, str) and not _is_file(plan)):
        return Plan.uniform(graph, _format(plan))
    if isinstance(plan, str | os.PathLike):
        plan = _read(plan)
    entries = {name: Entry.of(value) for name, value in plan.items()}
    if partial:
        known = sites(graph)
        entries = {name: e for name, e in entries.items() if _concerns(name, e, known)}
    return Plan.from_patterns(graph, entries)


def _is_file(text: str) -> bool:
    return text.endswith(".json") or Path(text).is_file()


def _format(plan: Format | str) -> Format:
    return parse(plan) if isinstance(plan, str) else plan


def _read(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """The entries of a plan's file, patterns as they stand."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise PlanError(f"{path}: not JSON: {error}") from None
    return read_entries(data, str(path))


def _concerns(name: str, entry: Entry, known: Mapping[str, Site]) -> bool:
    """Whether an entry says something of one of the known sites."""
    if name in known:
        return True
    matched = (site for site in known.values() if fnmatchcase(site.name, name))
    return any(suits(site, entry.format) for site in matched)
