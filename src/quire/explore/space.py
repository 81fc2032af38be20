"""The search space: for each site or tie group, the formats that it may take."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from random import Random
from typing import Any, TypeAlias, cast

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from quire.errors import PlanError, StudyError
from quire.explore.patterns import Fit, Pattern
from quire.formats import Format
from quire.graph import Site
from quire.precision.entry import Entry
from quire.precision.legal import check_legal, is_legal, legal_formats, suits

Genome: TypeAlias = tuple[int, ...]
"""A plan as indices: for each group in order, which of its candidates."""

Params: TypeAlias = dict[str, int | str]
"""A plan as Optuna's parameters."""

Formats: TypeAlias = str | Format | Sequence[str | Format]
FormatLists: TypeAlias = Formats | Mapping[str, Formats]
FitSites: TypeAlias = Callable[[Sequence[Site], str], int | None]


@dataclass(frozen=True)
class Candidate:
    """A format that a group may take.

    format: the format string, with its corrections: `mxint4+gptq`.
    bits: stored bits a value at the group's first site, its scales counted.
    params: Optuna's parameters that name it.
    label: what it is called where every group takes it: `fixed(4,fitted)`.
    """

    format: str
    bits: float
    params: Mapping[str, int | str]
    label: str


@dataclass(frozen=True)
class Group:
    """A site, or all sites tied to it: one choice, named by its first site.

    families: {pattern: names of its parameters}.
    """

    name: str
    sites: tuple[Site, ...]
    candidates: tuple[Candidate, ...]
    distributions: Mapping[str, BaseDistribution]
    families: Mapping[str, tuple[str, ...]]

    @cached_property
    def by_bits(self) -> tuple[int, ...]:
        """Indices of the candidates, the smallest format first."""
        return tuple(sorted(range(len(self.candidates)), key=lambda i: self.candidates[i].bits))

    @cached_property
    def _lookup(self) -> dict[tuple[tuple[str, int | str], ...], int]:
        return {tuple(c.params.items()): i for i, c in enumerate(self.candidates)}

    def smaller(self, i: int) -> list[int]:
        """The candidates with fewer bits than candidate `i`."""
        return [j for j, c in enumerate(self.candidates) if c.bits < self.candidates[i].bits]

    def choose(self, params: Mapping[str, int | str]) -> int:
        """The candidate that Optuna's parameters name; those of other families do not matter."""
        family = params[self.name] if len(self.families) > 1 else next(iter(self.families))
        named = ([self.name] if len(self.families) > 1 else []) + [*self.families[str(family)]]
        exact = self._lookup.get(tuple((name, params[name]) for name in named))
        return self._nearest(named, params) if exact is None else exact

    def _nearest(self, named: Sequence[str], params: Mapping[str, int | str]) -> int:
        """For settings whose format the group cannot take: the legal ones nearest to them."""

        def distance(i: int) -> int:
            own = self.candidates[i].params
            if set(own) != set(named) or own.get(self.name) != params.get(self.name):
                return 1 << 30  # of another family
            return sum(abs(int(own[n]) - int(params[n])) for n in named if n != self.name)

        return min(range(len(self.candidates)), key=distance)


@dataclass(frozen=True)
class Space:
    """All groups of a search, in graph order."""

    groups: tuple[Group, ...]

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's view: every parameter of every group, the same in each trial."""
        return {name: d for group in self.groups for name, d in group.distributions.items()}

    @property
    def size(self) -> int:
        """The number of plans."""
        return math.prod(len(group.candidates) for group in self.groups)

    @property
    def cheapest(self) -> Genome:
        """The plan with the smallest format at every site."""
        return tuple(group.by_bits[0] for group in self.groups)

    def bits(self, genome: Genome) -> float:
        """The bits of a plan's formats, added up."""
        pairs = zip(self.groups, genome, strict=True)
        return sum(group.candidates[i].bits for group, i in pairs)

    def genome(self, params: Mapping[str, int | str]) -> Genome:
        """The plan that Optuna's parameters describe."""
        return tuple(group.choose(params) for group in self.groups)

    def neighbour(self, genome: Genome, random: Random) -> Genome:
        """`genome` with another candidate at one random site, where there is a choice at all."""
        changed = list(genome)
        open_groups = [g for g, group in enumerate(self.groups) if len(group.candidates) > 1]
        if open_groups:
            g = random.choice(open_groups)
            others = [i for i in range(len(self.groups[g].candidates)) if i != genome[g]]
            changed[g] = random.choice(others)
        return tuple(changed)

    def params(self, genome: Genome, given: Mapping[str, int | str] | None = None) -> Params:
        """Optuna's parameters of a plan; those that do not matter are taken from `given`."""
        values: Params = {}
        for group, i in zip(self.groups, genome, strict=True):
            for name, distribution in group.distributions.items():
                values[name] = given[name] if given else _first(distribution)
            values.update(group.candidates[i].params)
        return values

    def formats(self, genome: Genome) -> dict[str, str]:
        """{site: format string}, group by group."""
        pairs = zip(self.groups, genome, strict=True)
        return {site.name: g.candidates[i].format for g, i in pairs for site in g.sites}

    def genome_of(self, formats: Mapping[str, str]) -> Genome:
        """The inverse of `formats`."""
        return tuple(
            [candidate.format for candidate in group.candidates].index(formats[group.name])
            for group in self.groups
        )

    def uniform(self) -> dict[str, Genome]:
        """{label: plan} for each format, or setting of a pattern, that every group may take.

        A `free` integer is at its fitted value.
        """
        first = [c for c in self.groups[0].candidates if "fitted+" not in c.label]
        first = [c for c in first if "fitted-" not in c.label]
        tables = [{c.label: i for i, c in enumerate(group.candidates)} for group in self.groups]
        labels = [c.label for c in first if all(c.label in table for table in tables)]
        return {label: tuple(table[label] for table in tables) for label in labels}

    def describe(self) -> dict[str, Any]:
        """The space as plain data: the sites in graph order, and {group: its formats}."""
        keys = ("name", "op", "role", "shape", "elements", "macs", "tie")
        return {
            "sites": [{k: getattr(s, k) for k in keys} for g in self.groups for s in g.sites],
            "formats": {g.name: [c.format for c in g.candidates] for g in self.groups},
        }


def build_space(
    sites: Iterable[Site],
    formats: FormatLists,
    selected: str | Sequence[str] | None = None,
    fit: FitSites | None = None,
) -> Space:
    """The space of a graph's sites.

    formats: format patterns for every selected site, or {site pattern: format patterns}, where the
        last match wins and the keys select the sites.
    selected: fnmatch patterns of site names; None: the operands of products and convolutions, or
        what the keys of `formats` select.
    fit: gives, for a group's sites and a template such as `fixed(8,{})`, the best integer; None
        where no such format fits the sites' dtype.
    A pattern with a wildcard leaves out the sites that none of the formats suits.
    Raises StudyError for a pattern that matches no site, for a site named exactly, or all sites,
        without a legal format, and for corrections that a site named exactly cannot have.
    """
    sites = tuple(sites)
    if selected is not None and not selected:
        raise StudyError("sites is empty: give patterns of site names, or None for all operands")
    selected = (selected,) if isinstance(selected, str) else selected
    lists: Mapping[str, Formats]
    if isinstance(formats, Mapping):
        if selected is not None:
            raise StudyError(
                f"sites={list(selected)!r} beside formats by site: their keys select the sites, so "
                "leave sites away"
            )
        lists, selected = formats, tuple(formats)
    else:
        lists = {"*": formats}
    chosen = _select(sites, selected)
    parsed = {key: _patterns(formats) for key, formats in lists.items()}
    groups: dict[str, list[Site]] = {}
    for site in chosen:
        groups.setdefault(site.tie, []).append(site)
    found = [_group(g, _last_match(g[0], parsed), fit, selected or ()) for g in groups.values()]
    if not any(found):
        raise StudyError(
            f"no site can take any of the formats; {chosen[0].name}, for one, takes "
            f"{legal_formats(chosen[0])}: add formats, or search other sites"
        )
    return Space(tuple(group for group in found if group is not None))


def _patterns(formats: Formats) -> list[Pattern]:
    several = (formats,) if isinstance(formats, str | Format) else formats
    if not isinstance(several, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StudyError(f"formats are {formats!r}: give format patterns, or {{site: patterns}}")
    return [Pattern.parse(text) for text in dict.fromkeys(map(str, several))]


def _select(sites: tuple[Site, ...], patterns: Sequence[str] | None) -> list[Site]:
    if patterns is None:
        operands = [site for site in sites if site.is_operand]
        if not operands:
            known = ", ".join(site.name for site in sites[:8])
            raise StudyError(
                f"the model has no product or convolution: name sites, such as {known}"
            )
        return operands
    for pattern in patterns:
        if not isinstance(pattern, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StudyError(f"sites holds {pattern!r}: give patterns of site names")
        if not any(fnmatchcase(site.name, pattern) for site in sites):
            known = ", ".join(site.name for site in sites[:8])
            raise StudyError(f"site pattern {pattern!r} matches no site; the first are {known}")
    return [site for site in sites if any(fnmatchcase(site.name, p) for p in patterns)]


def _last_match(site: Site, lists: Mapping[str, list[Pattern]]) -> list[Pattern]:
    return [patterns for key, patterns in lists.items() if fnmatchcase(site.name, key)][-1]


def _group(
    sites: Sequence[Site], patterns: Sequence[Pattern], fit: FitSites | None, exact: Sequence[str]
) -> Group | None:
    """The group of tied sites; None where no format suits them, unless `exact` names one."""
    name = sites[0].name
    if not patterns:
        raise StudyError(f"site {name} has no format to choose from: give at least one")
    named = [site for site in sites if site.name in exact]
    takes = is_legal if named else suits
    fit_here = _fit_once(sites, fit)
    settings = {p: list(_settings(sites, p, fit_here, takes)) for p in patterns}
    for pattern in patterns:
        if named and pattern.corrections and not settings[pattern]:
            _check_named(named, pattern, fit_here)
    patterns = [pattern for pattern in patterns if settings[pattern]]
    if not patterns:
        return _unfilled(named, [pattern.text for pattern in settings])
    distributions: dict[str, BaseDistribution] = {}
    if len(patterns) > 1:
        distributions[name] = CategoricalDistribution([pattern.text for pattern in patterns])
    for pattern in patterns:
        for hole in pattern.holes:
            distributions[_param(name, pattern, hole.name)] = _distribution(hole.values)
    return Group(
        name=name,
        sites=tuple(sites),
        candidates=tuple(
            _candidate(sites[0], pattern, values, entry, len(patterns) > 1)
            for pattern in patterns
            for values, entry in settings[pattern]
        ),
        distributions=distributions,
        families={p.text: tuple(_param(name, p, hole.name) for hole in p.holes) for p in patterns},
    )


def _unfilled(named: Sequence[Site], texts: Sequence[str]) -> None:
    for site in named:
        raise StudyError(f"site {site.name} takes {legal_formats(site)}, not {', '.join(texts)}")


def _check_named(named: Sequence[Site], pattern: Pattern, fit: Fit) -> None:
    """Say why sites that are named exactly cannot have corrections, rather than leave them out."""
    found = (pattern.entry(settings, fit) for settings in pattern.settings())
    for entry in filter(None, found):
        for site in named:
            try:
                check_legal(site, entry)
            except PlanError as error:
                raise StudyError(f"{pattern.text}: {error}") from None


def _settings(
    sites: Sequence[Site], pattern: Pattern, fit: Fit, takes: Callable[[Site, Entry], bool]
) -> Iterator[tuple[dict[str, int], Entry]]:
    """The settings of a pattern that every one of the sites takes, with their entries."""
    for settings in pattern.settings():
        entry = pattern.entry(settings, fit)
        if entry is not None and all(takes(site, entry) for site in sites):
            yield settings, entry


def _candidate(
    site: Site, pattern: Pattern, settings: Mapping[str, int], entry: Entry, several: bool
) -> Candidate:
    family: Params = {site.name: pattern.text} if several else {}
    params = {_param(site.name, pattern, hole): value for hole, value in settings.items()}
    bits = entry.format.bits_per_value(_axis_length(site))
    return Candidate(str(entry), bits, family | params, pattern.label(settings))


def _fit_once(sites: Sequence[Site], fit: FitSites | None) -> Fit:
    @cache
    def fitted(template: str) -> int | None:
        if fit is None:
            raise StudyError(f"{template.format('fitted')}: no calibration data to fit it to")
        return fit(sites, template)

    return fitted


def _param(name: str, pattern: Pattern, hole: str) -> str:
    return f"{name} {pattern.text} {hole}"


def _distribution(values: tuple[int, ...]) -> BaseDistribution:
    low, high = min(values), max(values)
    if values == tuple(range(low, high + 1)):
        return IntDistribution(low, high)
    return CategoricalDistribution(values)


def _first(distribution: BaseDistribution) -> int | str:
    if isinstance(distribution, CategoricalDistribution):
        return cast("int | str", distribution.choices[0])
    return cast("IntDistribution", distribution).low


def _axis_length(site: Site) -> int:
    axes = (site.axis,) if isinstance(site.axis, int) else site.axis
    return max(1, math.prod(site.shape[axis] for axis in axes if site.shape))
