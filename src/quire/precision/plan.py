"""`Plan`: which format each site has; versioned JSON, patterns, and the checks against a graph."""

from __future__ import annotations

import difflib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from rich.console import Console
from rich.table import Table
from torch.fx import GraphModule

from quire.errors import FormatError, PlanError
from quire.graph.sites import Site, sites
from quire.precision.entry import Entry, EntryLike
from quire.precision.legal import check_legal, suits

if TYPE_CHECKING:
    from quire.precision.calibrate import Data

VERSION = 1


class Plan(MutableMapping[str, Entry]):
    """A mutable mapping {site: entry}, in the order in which entries were made.

    `plan[site] = "mxint4"` makes an entry of a string or a `Format`; "mxint4+gptq" names a
    correction too, which `quire.correct` makes before the plan is applied. Sites that share one
    tensor (a tie group) have one entry: any member's counts for all, and two that differ are an
    error. An operand of a product without an entry is fp32.
    """

    def __init__(self, entries: Mapping[str, EntryLike] | None = None) -> None:
        self._entries: dict[str, Entry] = {}
        for name, entry in _mapping(entries or {}).items():
            self[name] = entry

    @staticmethod
    def uniform(
        graph: GraphModule, format: EntryLike, scope: Literal["operands", "all"] = "operands"
    ) -> Plan:
        """One format at every operand of a product or convolution.

        scope: "all" takes every site for which the format is legal, except an input that only
            masks, unless the format has infinities.
        """
        if scope not in ("operands", "all"):
            raise PlanError(f"scope {scope!r} is neither 'operands' nor 'all'")
        entry = Entry.of(format)
        chosen = [
            site.name
            for site in sites(graph).values()
            if suits(site, entry) and (site.is_operand or scope == "all")
        ]
        return Plan(dict.fromkeys(chosen, entry))

    @staticmethod
    def from_patterns(graph: GraphModule, patterns: Mapping[str, EntryLike]) -> Plan:
        """A plan from {pattern: format}, such as {"*.weight": "mxint4", "fc1.*": "mxint8"}.

        Patterns are those of `fnmatch`. Of the patterns that match a site or one tied to it, the
        last wins. One with a wildcard fills the sites for which its format is legal; one that
        fills nothing raises `PlanError`.
        """
        known = sites(graph)
        entries = {pattern: Entry.of(value) for pattern, value in _mapping(patterns).items()}
        resolve(Plan({name: entry for name, entry in entries.items() if name in known}), known)
        chosen: dict[str, Entry] = {}
        for pattern, entry in entries.items():
            for site in _matches(pattern, entry, known):
                chosen[site.tie] = entry
        return Plan({s.name: chosen[s.tie] for s in known.values() if s.tie in chosen})

    def check(self, graph: GraphModule) -> None:
        """Raise `PlanError` unless every entry names a site of `graph` that can have its format,
        and entries of tied sites agree."""
        resolve(self, sites(graph))

    def for_hardware(self, graph: GraphModule, calibration: Data, *, quiet: bool = False) -> Plan:
        """A copy of the plan that fits exact hardware, `emit`'s; prints what changed, and why.

        calibration: one batch, a tuple of inputs or a dict of them by name, or an iterable of
            batches; what it shows bounds what the hardware holds.

        Each power-of-two scale found in the data of an activation gets 16 exponents, the top one
        above the largest seen (a block beyond saturates, one below takes the lowest). What has no
        entry gets one: the inputs of tables, softmax and norms fixed(10,f), the results of tables
        that no scalar cast follows and biases fixed(16,f), scalar constants 16 significant bits,
        and a graph input the format to which all its readers cast it, else fixed(16,f). A table
        takes scalars of at most 16 bits and gives scalars: another entry there counts as none.
        `exact` of the new plan is what hardware equals.
        """
        from quire.precision.for_hardware import for_hardware

        return for_hardware(self, graph, calibration, quiet)

    @property
    def has_corrections(self) -> bool:
        """Whether there are corrections that `quire.correct` is to make."""
        return any(entry.is_pending for entry in self._entries.values())

    def without_corrections(self) -> Plan:
        """A copy without those; a correction that sets a static scale leaves none."""
        return Plan({name: entry.settled for name, entry in self.items()})

    def __or__(self, other: Mapping[str, EntryLike]) -> Plan:
        """The entries of both; those of `other` win."""
        return Plan({**self, **other})

    def diff(self, other: Mapping[str, EntryLike]) -> dict[str, tuple[Entry | None, Entry | None]]:
        """{site: (entry here, entry in other)} where they differ; None stands for no entry."""
        other = Plan(other)
        names = dict.fromkeys([*self, *other])
        return {n: (self.get(n), other.get(n)) for n in names if self.get(n) != other.get(n)}

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data: {"version": 1, "entries": {site: format or object}}."""
        return {"version": VERSION, "entries": {n: e.to_json() for n, e in self.items()}}

    @staticmethod
    def from_json(data: Any, graph: GraphModule | None = None, source: str = "plan") -> Plan:
        """The inverse of `to_json`; `source` names the data in errors.

        With a graph, patterns are expanded and the entries checked. Without one, patterns are an
        error. Raises `PlanError`.
        """
        entries = read_entries(data, source)
        wild = [name for name in entries if _is_pattern(name)]
        if wild and graph is None:
            raise PlanError(
                f"{source}: {wild[0]!r} is a pattern, which needs a graph: Plan.load(path, graph)"
            )
        if graph is None:
            return Plan(entries)
        try:
            return Plan.from_patterns(graph, entries) if wild else _checked(Plan(entries), graph)
        except PlanError as error:
            raise PlanError(f"{source}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as indented JSON."""
        Path(path).write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: str | os.PathLike[str], graph: GraphModule | None = None) -> Plan:
        """Read a plan and, given a graph, expand its patterns and check it against the graph.

        Raises `PlanError` that names the file for anything that is not a legal plan.
        """
        return Plan.from_json(_load_json(path), graph, str(path))

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __setitem__(self, name: str, value: EntryLike) -> None:
        try:
            self._entries[name] = Entry.of(value)
        except (FormatError, PlanError) as error:
            raise PlanError(f"{name}: {error}") from None

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Plan({ {name: str(entry) for name, entry in self.items()} })"

    def __rich__(self) -> Table:
        table = Table("site", "format", box=None)
        for name, entry in self.items():
            table.add_row(name, str(entry))
        return table

    def __str__(self) -> str:
        console = Console(file=io.StringIO(), width=160)
        with console.capture() as text:
            console.print(self.__rich__(), markup=False)
        return "\n".join(line.rstrip() for line in text.get().splitlines())


def _mapping(entries: Mapping[str, EntryLike]) -> Mapping[str, EntryLike]:
    """`entries`, if they are what their type says; else `PlanError`."""
    if not isinstance(entries, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PlanError(f'{entries!r} is no {{site: format}}, such as {{"fc1.weight": "mxint4"}}')
    for name in entries:
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PlanError(f"{name!r} is no name of a site: give a string such as 'fc1.weight'")
    return entries


def resolve(plan: Plan, known: Mapping[str, Site]) -> dict[str, Entry]:
    """{tie group: entry} of a plan, checked: known sites, legal formats, no contradictions."""
    if not isinstance(plan, Plan):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PlanError(
            f'the plan is a {type(plan).__name__}: give a quire.Plan, such as Plan({{"fc1.weight": '
            '"mxint4"}) or Plan.uniform(graph, "mxint8")'
        )
    chosen: dict[str, tuple[str, Entry]] = {}
    for name, entry in plan.items():
        site = known.get(name) or _unknown_site(name, known)
        check_legal(site, entry)
        first, agreed = chosen.setdefault(site.tie, (name, entry))
        if agreed is not entry and agreed != entry:
            raise PlanError(
                f"{first} is {agreed} and {name} is {entry}, but they share one tensor: give both "
                "the same entry, or drop one (an entry of any of them counts for all)"
            )
    return {group: entry for group, (_, entry) in chosen.items()}


def _unknown_site(name: str, known: Iterable[str]) -> Site:
    raise PlanError(f"no site {name!r} in the graph: {_suggestion(name, known)}")


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 3, 0.5)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return "`quire plan sites` lists the sites"


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _matches(pattern: str, entry: Entry, known: Mapping[str, Site]) -> list[Site]:
    """The sites that a pattern fills; an exact name must be legal, a wildcard skips the rest."""
    if pattern in known:
        check_legal(known[pattern], entry)
        return [known[pattern]]
    matched = [site for name, site in known.items() if fnmatchcase(name, pattern)]
    if not matched:
        what = "pattern" if _is_pattern(pattern) else "site name"
        raise PlanError(f"{what} {pattern!r} matches no site: {_suggestion(pattern, known)}")
    legal = [site for site in matched if suits(site, entry)]
    if not legal:
        check_legal(matched[0], entry)
    return legal


def load_entries(path: str | os.PathLike[str]) -> dict[str, Entry]:
    """The entries of a plan's file, patterns as they stand; raises `PlanError`."""
    return read_entries(_load_json(path), str(path))


def _load_json(path: str | os.PathLike[str]) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8")
        return json.loads(text, object_pairs_hook=_without_repeats)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise PlanError(f"{path}: not JSON: {error}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of whose equal keys all but the last would be lost."""
    counts = Counter(name for name, _ in pairs)
    for name, count in counts.items():
        if count > 1:
            raise PlanError(f"{name!r} is there {count} times: keep one")
    return dict(pairs)


def read_entries(data: Any, source: str) -> dict[str, Entry]:
    """The entries of plan JSON, after checks of its outline and version."""
    plan = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    if not plan.keys() >= {"version", "entries"} or not isinstance(plan["entries"], dict):
        raise PlanError(
            f'{source}: not a plan; one looks like {{"version": {VERSION}, "entries": '
            '{"fc1.weight": "mxint4"}}'
        )
    if plan["version"] != VERSION:
        raise PlanError(
            f"{source}: plan version {plan['version']!r}; this Quire reads version {VERSION}"
        )
    if unknown := plan.keys() - {"version", "entries"}:
        names = ", ".join(map(repr, sorted(unknown)))
        raise PlanError(f"{source}: not a plan: it has {names} beside 'version' and 'entries'")
    entries: dict[str, Entry] = {}
    for name, value in cast("dict[str, Any]", plan["entries"]).items():
        try:
            entries[name] = Entry.from_json(value)
        except (PlanError, FormatError) as error:
            raise PlanError(f"{source}: {name}: {error}") from None
    return entries


def _checked(plan: Plan, graph: GraphModule) -> Plan:
    plan.check(graph)
    return plan
