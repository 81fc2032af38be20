"""The costs of plans as sums over choices, and over pairs of choices at the operands of a product.

bits, weight_bits, activation_bits and whatever is fitted to each site are sums over the choices;
bitops is one of pairs. The tables are filled by asking the cost function for plans that differ from
the cheapest one at one group, or at two that meet in a product, so that they hold for any cost that
is such a sum. Plans by chance tell whether one is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from random import Random
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quire.explore.space import Genome, Space
from quire.formats import parse

Array = NDArray[np.float64]
Costs: TypeAlias = Callable[[Mapping[str, str]], Mapping[str, float]]

ROUNDING = 1e-9  # relative: the last digits of sums in another order
PROBES = 8  # plans by chance at which the table of a cost is compared with it


@dataclass(frozen=True)
class Pair:
    """Two groups that meet in a product.

    groups: their indices. widths: for either, {bits of an element: a candidate of that width}.
    """

    groups: tuple[int, int]
    widths: tuple[Mapping[int, int], Mapping[int, int]]


@dataclass(frozen=True)
class CostTable:
    """A cost as a sum.

    least: of the cheapest plan. choices: (groups, candidates), what each candidate adds to it.
    pairs: for each pair, (widths, widths), what two widths add beside that; empty where no pair
        adds anything.
    exact: whether the sum is the cost.
    """

    least: float
    choices: Array
    pairs: Sequence[Array]
    exact: bool


class CostTables:
    """The tables of all costs of a space, filled when the first is asked for.

    costs: the metrics of {site: format string}.
    """

    def __init__(self, space: Space, costs: Costs) -> None:
        self.space, self._costs = space, costs
        self.least = self.of(space.cheapest)
        self._tables: dict[str, CostTable] = {}

    @cached_property
    def widths(self) -> list[list[int]]:
        """For each group, the bits of an element of each candidate."""
        return [[parse(c.format).bits for c in g.candidates] for g in self.space.groups]

    @cached_property
    def pairs(self) -> list[Pair]:
        """The groups that meet in a product, each two once."""
        meeting = _meeting(self.space)
        return [Pair((a, b), (self._by_width(a), self._by_width(b))) for a, b in meeting]

    def of(self, genome: Genome) -> Mapping[str, float]:
        """The costs of a plan."""
        return self._costs(self.space.formats(genome))

    def __getitem__(self, metric: str) -> CostTable:
        if metric not in self._tables:
            self._tables[metric] = self._fill(metric)
        return self._tables[metric]

    def total(self, table: CostTable, genome: Genome) -> float:
        """A plan's cost by a table."""
        total = table.least + float(table.choices[np.arange(len(genome)), genome].sum())
        if not table.pairs:
            return total
        for pair, extra in zip(self.pairs, table.pairs, strict=True):
            row, column = (
                list(widths).index(self.widths[g][genome[g]])
                for g, widths in zip(pair.groups, pair.widths, strict=True)
            )
            total += float(extra[row, column])
        return total

    def _by_width(self, g: int) -> dict[int, int]:
        """The cheapest plan's candidate stands for its width, which so adds nothing to pairs."""
        widths, cheapest = self.widths[g], self.space.cheapest[g]
        return {w: widths.index(w) for w in sorted(set(widths))} | {widths[cheapest]: cheapest}

    def _fill(self, metric: str) -> CostTable:
        """The choices alone where they give the costs of plans, else with pairs."""
        least = self.least[metric]
        choices = padded([[c[metric] - least for c in row] for row in self._alone], 0.0)
        plain = CostTable(least, choices, (), True)
        if self._is_cost(plain, metric):
            return plain
        pairs = [self._interaction(p, metric) for p in range(len(self.pairs))]
        paired = CostTable(least, choices, pairs, True)
        if self._is_cost(paired, metric):
            return paired
        return CostTable(least, choices, (), False)

    def _interaction(self, p: int, metric: str) -> Array:
        """What two widths add beside what each adds alone."""
        (a, b), (first, second) = self.pairs[p].groups, self.pairs[p].widths
        both = np.array([[costs[metric] for costs in row] for row in self._together[p]])
        rows = np.array([self._alone[a][i][metric] for i in first.values()])
        columns = np.array([self._alone[b][j][metric] for j in second.values()])
        return both - rows[:, None] - columns + self.least[metric]

    def _is_cost(self, table: CostTable, metric: str) -> bool:
        return all(
            math.isclose(self.total(table, genome), costs[metric], rel_tol=ROUNDING)
            for genome, costs in self._probes
        )

    @cached_property
    def _alone(self) -> list[list[Mapping[str, float]]]:
        """For each group and candidate, the costs of the cheapest plan with that choice."""
        groups = self.space.groups
        return [
            [self._changed({g: i}) for i in range(len(group.candidates))]
            for g, group in enumerate(groups)
        ]

    @cached_property
    def _together(self) -> list[list[list[Mapping[str, float]]]]:
        """For each pair and two widths, the costs of the cheapest plan with these choices."""
        return [
            [
                [self._changed({pair.groups[0]: i, pair.groups[1]: j}) for j in second.values()]
                for i in first.values()
            ]
            for pair, (first, second) in ((pair, pair.widths) for pair in self.pairs)
        ]

    @cached_property
    def _probes(self) -> list[tuple[Genome, Mapping[str, float]]]:
        random = Random(0)
        sizes = [len(group.candidates) for group in self.space.groups]
        genomes = [tuple(random.randrange(size) for size in sizes) for _ in range(PROBES)]
        return [(genome, self.of(genome)) for genome in genomes]

    def _changed(self, choices: Mapping[int, int]) -> Mapping[str, float]:
        genome = list(self.space.cheapest)
        for g, i in choices.items():
            genome[g] = i
        return self.of(tuple(genome))


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
