"""The costs of plans as sums over choices, and over pairs of choices.

bits, weight_bits, activation_bits and whatever is fitted to each site are sums over the choices;
bitops is one of pairs of widths at a product; the area of a circuit nearly one of pairs of formats
at neighbouring sites. The tables are filled by asking the cost function for plans that differ from
one of them at one group, or at two, so that they hold for any cost that is such a sum. Plans
by chance tell whether one is. A cost that is a maximum (`quire.precision.Maximum`) has a table for
each of its parts.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from random import Random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quire.errors import HardwareError, KernelError
from quire.explore.progress import StageProgress
from quire.explore.space import Genome, Space
from quire.precision import Entry, Maximum

Array = NDArray[np.float64]
Costs: TypeAlias = Callable[[Mapping[str, str]], Mapping[str, float]]
Reading: TypeAlias = Callable[[Mapping[str, float]], float]
Changes: TypeAlias = Mapping[int, int]  # {group: candidate}, from the base

ROUNDING = 1e-9  # relative: the last digits of sums in another order
NEARLY = 0.01  # relative: a sum that is wrong by less is not refined, its limits are tightened
PROBES = 8  # plans by chance at which the table of a cost is compared with it
PATIENCE = 2.0  # seconds that costs may take without a line of progress
MOST_PAIRS = 5000  # plans that may be costed for pairs of formats; without them if it takes more


@dataclass(frozen=True)
class Pairing:
    """Two groups whose choices together add to a cost.

    groups: their indices. kinds: for either, the kind of each candidate, by which pairs count.
    """

    groups: tuple[int, int]
    kinds: tuple[tuple[int, ...], tuple[int, ...]]

    @property
    def shape(self) -> tuple[int, int]:
        """The number of kinds of either."""
        first, second = (max(kinds) + 1 for kinds in self.kinds)
        return first, second

    def cell(self, genome: Genome) -> tuple[int, int]:
        """The kinds that a plan has."""
        first, second = (k[genome[g]] for g, k in zip(self.groups, self.kinds, strict=True))
        return first, second


@dataclass(frozen=True)
class CostTable:
    """A cost as a sum; an infinite term is that of a choice, or a pair, that may not be taken.

    least: of the base. choices: (groups, candidates), what each candidate adds to it.
    pairs: {pairing: (kinds, kinds), what two kinds add beside that}.
    error: by how much it misses the cost of a plan by chance at most, relative to the cost.
    """

    least: float
    choices: Array
    pairs: Mapping[Pairing, Array]
    error: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether the sum is the cost."""
        return self.error <= ROUNDING

    def total(self, genome: Genome) -> float:
        """A plan's cost."""
        alone = float(self.choices[np.arange(len(genome)), genome].sum())
        together = (float(extra[pairing.cell(genome)]) for pairing, extra in self.pairs.items())
        return self.least + alone + math.fsum(together)

    def miss(self, genome: Genome, cost: float) -> float:
        """By how much the sum misses the cost of a plan, relative to it; 0 where both are
        infinite."""
        total = self.total(genome)
        if math.isfinite(total) and math.isfinite(cost):
            return abs(total - cost) / max(abs(cost), abs(self.least), 1e-300)
        return math.inf if math.isfinite(total) or math.isfinite(cost) else 0.0


class CostTables:
    """The tables of all costs of a space, filled when the first is asked for.

    costs: the metrics of {site: format string}; a plan for which it raises HardwareError or
        KernelError is refused, and has infinite ones.
    progress: whether a line shows when costs take seconds.
    base: the plan from which others differ: the cheapest, or of the uniform ones the smallest that
        is not refused. least: its costs.
    The error of the cheapest plan is raised where all of these are refused.
    """

    def __init__(self, space: Space, costs: Costs, progress: bool = False) -> None:
        self.space, self._costs, self._progress = space, costs, progress
        started = time.perf_counter()
        self.base, self.least = self._legal()
        self._seconds = time.perf_counter() - started
        self._tables: dict[str, CostTable] = {}
        self._parts: dict[str, list[CostTable]] = {}
        self._grids: dict[Pairing, list[list[Mapping[str, float]]]] = {}

    def _legal(self) -> tuple[Genome, Mapping[str, float]]:
        space = self.space
        cheapest = space.cheapest
        uniform = sorted(space.uniform().values(), key=space.bits)
        for genome in (cheapest, *uniform):
            with suppress(HardwareError, KernelError):
                return genome, self._costs(space.formats(genome))
        return cheapest, self._costs(space.formats(cheapest))

    def of(self, genome: Genome) -> Mapping[str, float]:
        """The costs of a plan."""
        try:
            return self._costs(self.space.formats(genome))
        except (HardwareError, KernelError):
            return dict.fromkeys(self.least, math.inf)

    def __getitem__(self, metric: str) -> CostTable:
        """The table of a cost; of a maximum the table of its value, which is no sum."""
        if metric not in self._tables:
            self._tables[metric] = self._fill(lambda costs: costs[metric])
        return self._tables[metric]

    def parts(self, metric: str) -> list[CostTable]:
        """Tables of which the cost is the largest: those of its parts, or the one of a sum."""
        if metric not in self._parts:
            names = self._names(metric)
            readings = (partial(_part, metric, name) for name in names)
            self._parts[metric] = [*map(self._fill, readings)] if names else [self[metric]]
        return self._parts[metric]

    @cached_property
    def refusals(self) -> list[CostTable]:
        """A table that tells which choices, and which two together, are refused, if any are."""
        known = [costs for row in self._alone for costs in row]
        known += [costs for _, costs in self._probes]
        metric = list(self.least)[-1]
        return [self[metric]] if any(math.isinf(costs[metric]) for costs in known) else []

    def _names(self, metric: str) -> list[str]:
        """The parts of a cost in any of the plans that are known."""
        known = [self.least, *(costs for row in self._alone for costs in row)]
        known += [costs for _, costs in self._probes]
        values = [costs[metric] for costs in known]
        return sorted({name for v in values if isinstance(v, Maximum) for name in v.parts})

    def _fill(self, read: Reading) -> CostTable:
        """The sum of choices where it gives the costs of plans, else with pairs of widths; where
        that is far from them, with pairs of formats."""
        best = self._table(read, ())
        steps = ((self._of_widths, ROUNDING), (partial(self._of_formats, read), NEARLY))
        for pairings, enough in steps:
            if best.error > enough:
                best = min(self._table(read, pairings()), best, key=lambda table: table.error)
        return best

    def _table(self, read: Reading, pairings: Sequence[Pairing]) -> CostTable:
        least, shares = read(self.least), self._shares(read)
        pairs = {pairing: self._extra(pairing, read, shares) for pairing in pairings}
        table = CostTable(least, padded(shares, 0.0), pairs)
        return replace(table, error=max(table.miss(g, read(costs)) for g, costs in self._probes))

    def _of_widths(self) -> list[Pairing]:
        """The operands of each product, by the bits of their elements."""
        ranks = [_ranks(widths) for widths in self.widths]
        return [Pairing((a, b), (ranks[a], ranks[b])) for a, b in _meeting(self.space)]

    def _of_formats(self, read: Reading) -> list[Pairing]:
        """The groups that interact, each candidate a kind; none where there are too many."""
        sizes = [len(group.candidates) for group in self.space.groups]
        found = [
            Pairing((a, b), (tuple(range(sizes[a])), tuple(range(sizes[b]))))
            for (a, b), plans in self._couples.items()
            if any(self._interact(read, (a, b), *plan) for plan in plans)
        ]
        missing = [pairing for pairing in found if pairing not in self._grids]
        plans = sum(math.prod(pairing.shape) for pairing in missing)
        if plans > MOST_PAIRS:
            return []
        with self._line(plans) as line:
            for pairing in missing:
                self._grid(pairing, line.advance)
        return found

    def _interact(
        self, read: Reading, groups: tuple[int, int], changes: Changes, costs: Mapping[str, float]
    ) -> bool:
        """Whether two changes together cost another amount than both alone, or one is refused."""
        alone = sum(read(self._alone[g][changes[g]]) for g in groups)
        expected, found = alone - read(self.least), read(costs)
        if not math.isfinite(expected) or not math.isfinite(found):
            return True
        return not math.isclose(expected, found, rel_tol=NEARLY / 10)

    def _shares(self, read: Reading) -> list[list[float]]:
        """What each candidate adds to the base. One that is refused there and taken elsewhere has
        the most of its group, which pairs correct; one that is never taken is infinite."""
        least = read(self.least)
        shares = [[read(costs) - least for costs in row] for row in self._alone]
        for g, row in enumerate(shares):
            most = max(share for share in row if math.isfinite(share))
            row[:] = [
                share if math.isfinite(share) or (g, i) not in self._taken else most
                for i, share in enumerate(row)
            ]
        return shares

    @cached_property
    def _taken(self) -> set[tuple[int, int]]:
        """The choices of plans by chance that are not refused."""
        couples = [plan for plans in self._couples.values() for plan in plans]
        plans = [*((self._genome(changes), costs) for changes, costs in couples), *self._probes]
        plans += [(genome, self.of(genome)) for genome in self.space.uniform().values()]
        return {
            choice
            for genome, costs in plans
            if all(map(math.isfinite, costs.values()))
            for choice in enumerate(genome)
        }

    def _extra(self, pairing: Pairing, read: Reading, shares: Sequence[Sequence[float]]) -> Array:
        """What two kinds add beside what each adds alone; infinite where the two are refused, but
        for a kind that is refused beside all of the other group, of which a third is the cause."""
        both = np.array([[read(costs) for costs in row] for row in self._grid(pairing)])
        rows, columns = (
            np.array([shares[g][i] for i in self._standing(g, kinds)])
            for g, kinds in zip(pairing.groups, pairing.kinds, strict=True)
        )
        legal = np.isfinite(both)
        unknown = ~legal & (~legal.any(1, keepdims=True) | ~legal.any(0, keepdims=True))
        with np.errstate(invalid="ignore"):
            extra = both - read(self.least) - rows[:, None] - columns
        return np.where(unknown, 0.0, np.where(legal & ~np.isnan(extra), extra, math.inf))

    def _grid(
        self, pairing: Pairing, advance: Callable[[], object] = int
    ) -> list[list[Mapping[str, float]]]:
        """The costs of the base with any two kinds of a pairing."""
        if pairing not in self._grids:
            (a, b), (first, second) = pairing.groups, pairing.kinds
            self._grids[pairing] = [
                [self._changed({a: i, b: j}, advance) for j in self._standing(b, second)]
                for i in self._standing(a, first)
            ]
        return self._grids[pairing]

    def _standing(self, g: int, kinds: Sequence[int]) -> list[int]:
        """The candidate that stands for each kind; for that of the base its own, so that its
        pairs add nothing."""
        found = {kind: i for i, kind in reversed(list(enumerate(kinds)))}
        own = self.base[g]
        return [i for _, i in sorted((found | {kinds[own]: own}).items())]

    def _line(self, plans: int) -> StageProgress:
        """A line of progress, which shows where it is worth one."""
        return StageProgress("costs", plans, self._progress and plans * self._seconds > PATIENCE)

    @cached_property
    def widths(self) -> list[list[int]]:
        """For each group, the bits of an element of each candidate."""
        groups = self.space.groups
        return [[Entry.of(c.format).format.bits for c in group.candidates] for group in groups]

    @cached_property
    def _alone(self) -> list[list[Mapping[str, float]]]:
        """For each group and candidate, the costs of the base with that choice."""
        sizes = [len(group.candidates) for group in self.space.groups]
        with self._line(sum(sizes)) as line:
            return [
                [self._changed({g: i}, line.advance) for i in range(size)]
                for g, size in enumerate(sizes)
            ]

    @cached_property
    def _couples(self) -> dict[tuple[int, int], list[tuple[Changes, Mapping[str, float]]]]:
        """For each two groups, plans that differ from the base by chance at both."""
        random = Random(0)
        others = [
            [i for i in range(len(group.candidates)) if i != self.base[g]]
            for g, group in enumerate(self.space.groups)
        ]
        open_groups = [g for g, choices in enumerate(others) if choices]
        return {
            (a, b): [
                (changes, self._changed(changes))
                for changes in (
                    {a: random.choice(others[a]), b: random.choice(others[b])} for _ in range(2)
                )
            ]
            for a, b in combinations(open_groups, 2)
        }

    @cached_property
    def _probes(self) -> list[tuple[Genome, Mapping[str, float]]]:
        random = Random(0)
        sizes = [len(group.candidates) for group in self.space.groups]
        genomes = [tuple(random.randrange(size) for size in sizes) for _ in range(PROBES)]
        return [(genome, self.of(genome)) for genome in genomes]

    def _changed(
        self, changes: Changes, advance: Callable[[], object] = int
    ) -> Mapping[str, float]:
        advance()
        return self.of(self._genome(changes))

    def _genome(self, changes: Changes) -> Genome:
        return tuple(changes.get(g, i) for g, i in enumerate(self.base))


def _part(metric: str, name: str, costs: Mapping[str, float]) -> float:
    """A part of a maximum; a plan that has no such part takes nothing there."""
    value = costs[metric]
    return value.parts.get(name, 0.0) if isinstance(value, Maximum) else value


def _ranks(values: Sequence[int]) -> tuple[int, ...]:
    """For each value its place among the distinct ones."""
    order = sorted(set(values))
    return tuple(map(order.index, values))


def padded(rows: Sequence[Sequence[float]], fill: float) -> Array:
    """Rows of different lengths as one array."""
    matrix = np.full((len(rows), max(map(len, rows))), fill)
    for row, values in zip(matrix, rows, strict=True):
        row[: len(values)] = values
    return matrix


def _meeting(space: Space) -> list[tuple[int, int]]:
    """Groups that have an operand each at one product, each two once, in graph order."""
    calls: dict[str, set[int]] = {}
    for g, group in enumerate(space.groups):
        for site in group.sites:
            if site.is_operand:
                calls.setdefault(site.node, set()).add(g)
    return sorted({pair for call in calls.values() for pair in combinations(sorted(call), 2)})
