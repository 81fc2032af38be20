"""`Report`: what happened to a model on its way to compiled code, as plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from quire.software.passes import Outcome


def _no_outcomes() -> list[Outcome]:
    return []


def _no_lines() -> list[str]:
    return []


@dataclass
class Report:
    """What each pass rewrote or refused, and what else is worth knowing; filled as code is made.

    outcomes: of the passes, in the order in which they ran.
    notes: sentences about whole graphs: how they were captured, what runs uncompiled, and why.
    placed: the sites at which the plan has been applied.
    """

    outcomes: list[Outcome] = field(default_factory=_no_outcomes)
    notes: list[str] = field(default_factory=_no_lines)
    placed: list[str] = field(default_factory=_no_lines)

    def kept(self, rewrite: str | None = None) -> list[Outcome]:
        """The rewrites that were made, of all passes or of one."""
        return [o for o in self.outcomes if o.kept and rewrite in (None, o.rewrite)]

    def refused(self, rewrite: str | None = None) -> list[Outcome]:
        """What was left as it is."""
        return [o for o in self.outcomes if not o.kept and rewrite in (None, o.rewrite)]

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def place(self, sites: Iterable[str]) -> None:
        """Remember sites of a plan that a graph has."""
        self.placed.extend(site for site in sites if site not in self.placed)

    def __str__(self) -> str:
        placed = [f"{len(self.placed)} sites have formats of the plan"] if self.placed else []
        lines = [*self.notes, *placed, *_grouped(self.kept()), *_grouped(self.refused())]
        return "\n".join(lines) or "nothing was rewritten"


def _grouped(outcomes: Iterable[Outcome]) -> list[str]:
    """One line for all outcomes of one pass with one reason, with the first of their places."""
    groups: dict[tuple[str, bool, str], list[str]] = {}
    for outcome in outcomes:
        key = (outcome.rewrite, outcome.kept, outcome.reason)
        groups.setdefault(key, []).append(outcome.place)
    return [_line(*key, places) for key, places in groups.items()]


def _line(rewrite: str, kept: bool, reason: str, places: list[str]) -> str:
    count = Counter(places)
    shown = ", ".join(list(count)[:SHOWN])
    more = f" and {len(count) - SHOWN} more" if len(count) > SHOWN else ""
    verb = "rewrote" if kept else "left"
    return f"{rewrite} {verb} {shown}{more}: {reason}"


SHOWN = 4
"""Places that a line of a report names."""
