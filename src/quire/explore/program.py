"""The integer program of a search: the plan with the least sum of sensitivities within limits.

A plan takes one candidate at each group, so that this is a multiple-choice knapsack (Kellerer,
Pferschy and Pisinger 2004, chapter 11), posed for bit widths by HAWQ-V3 (Yao et al. 2021) and
solved by SciPy's HiGHS. A cost that is a sum over pairs of choices has a variable for each two
widths of a pair; these sum to the choices on either side, which is exact, and tighter than
McCormick's inequalities.

What is no sum (the header of a checkpoint in `memory`, a maximum over stages) is approached by the
table of its choices, and its limit is tightened until the plan meets it. So a plan that is returned
meets its limits always, and is the best one where the costs are sums.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from quire.errors import StudyError
from quire.explore.cost_tables import ROUNDING, Array, CostTable, CostTables, padded
from quire.explore.space import Genome

GAP = 1e-6  # relative, within which HiGHS calls a plan the best
TIGHTENINGS = 20  # the most plans in a row that may break a limit on what is no sum


class Program:
    """The integer program of a space; made once, it takes limit after limit.

    tables: the costs of the space.
    values: for each group, the sensitivity of each candidate; one that is infinite is not taken.
    Raises StudyError where a group has no candidate with a finite sensitivity.
    """

    def __init__(self, tables: CostTables, values: Sequence[Sequence[float]]) -> None:
        self._values = padded(values, math.inf)
        for group, row in zip(tables.space.groups, self._values, strict=True):
            if not np.isfinite(row).any():
                raise StudyError(
                    f"site {group.name}: none of its formats has a finite sensitivity, of "
                    f"{[c.format for c in group.candidates]}: add one that the outputs survive"
                )
        self.tables = tables
        self._knapsacks: dict[tuple[str, ...], _Knapsack] = {}

    def solve(self, limits: Mapping[str, float]) -> Genome:
        """The plan with the least sum of sensitivities whose costs are at most `limits`.

        Raises StudyError for a name that is no cost, and for limits that no plan meets; it names
        the one that binds and the nearest value that can be met.
        """
        self._check(limits)
        found = self._within(limits)
        if found is None:
            raise StudyError(self._shortfall(limits))
        return found

    def front(
        self, cost: str, bounds: Iterable[float], limits: Mapping[str, float] | None = None
    ) -> list[Genome]:
        """The plans for several bounds of one cost, the least first, each plan once.

        limits: what holds beside. Bounds below what can be met are left out.
        """
        self._check({**(limits or {}), cost: 0.0})
        found = (self._within({**(limits or {}), cost: bound}) for bound in sorted(bounds))
        return list(dict.fromkeys(genome for genome in found if genome is not None))

    def least(self, cost: str, limits: Mapping[str, float] | None = None) -> float | None:
        """The least value of a cost among the plans within other limits; None where there is none.

        Of a cost that is no sum, the value of the plan for which the sum is the least.
        """
        self._check({**(limits or {}), cost: 0.0})
        genome = self._within(limits or {}, cost)
        return None if genome is None else self.tables.of(genome)[cost]

    def total(self, genome: Genome) -> float:
        """The sum of a plan's sensitivities."""
        return math.fsum(self._values[np.arange(len(genome)), genome].tolist())

    def _within(self, limits: Mapping[str, float], goal: str = "") -> Genome | None:
        """The best plan within `limits`, by the cost `goal` or else by the sensitivities."""
        bounds = dict(limits)
        knapsack = self._knapsack(tuple(limits), goal)
        for _ in range(TIGHTENINGS):
            genome = knapsack.minimum(bounds)
            if genome is None:
                break
            broken = self._broken(genome, limits)
            if not broken:
                return genome
            for metric, excess in broken.items():
                bounds[metric] -= max(excess, ROUNDING * abs(limits[metric]))
        return self._smallest(limits)

    def _smallest(self, limits: Mapping[str, float]) -> Genome | None:
        """Where tightening leaves no plan, one with the least sum of a cost that is no sum."""
        for metric in (m for m in limits if not self.tables[m].exact):
            others = {m: bound for m, bound in limits.items() if m != metric}
            genome = self._knapsack(tuple(others), metric).minimum(others)
            if genome is not None and not self._broken(genome, limits):
                return genome
        return None

    def _broken(self, genome: Genome, limits: Mapping[str, float]) -> dict[str, float]:
        """By how much a plan exceeds each limit that it breaks."""
        costs = self.tables.of(genome)
        return {m: costs[m] - bound for m, bound in limits.items() if costs[m] > bound}

    def _knapsack(self, metrics: tuple[str, ...], goal: str) -> "_Knapsack":
        key = (goal, *metrics)
        if key not in self._knapsacks:
            self._knapsacks[key] = _Knapsack(self.tables, self._values, metrics, goal)
        return self._knapsacks[key]

    def _check(self, limits: Mapping[str, float]) -> None:
        for metric in limits:
            if metric not in self.tables.least:
                known = ", ".join(self.tables.least)
                raise StudyError(f"{metric!r} is no cost: limit one of {known}")

    def _shortfall(self, limits: Mapping[str, float]) -> str:
        """Which limit no plan meets, alone or beside the others, in words."""
        for metric, bound in limits.items():
            least = self.least(metric)
            if least is not None and least > bound:
                return (
                    f"no plan meets the limit {metric} <= {bound:.6g}: the least is {least:.6g}; "
                    "raise the limit, add a smaller format, or search more sites"
                )
        words = " and ".join(f"{metric} <= {bound:.6g}" for metric, bound in limits.items())
        nearest = ", ".join(self._nearest(metric, limits) for metric in limits)
        if len(limits) == 1:  # on what is no sum, and met by none of the plans that were tried
            return f"no plan within the limit {words} was found; of the plans found, {nearest}"
        return (
            f"no plan meets the limits {words} together, though each alone; with the others as "
            f"they are, {nearest}"
        )

    def _nearest(self, metric: str, limits: Mapping[str, float]) -> str:
        least = self.least(metric, {m: bound for m, bound in limits.items() if m != metric})
        return f"no {metric} will do" if least is None else f"{metric} is at least {least:.6g}"


class _Knapsack:
    """The matrix of a program for limits on certain costs.

    Its columns are the choices that no other dominates, then the pairs of widths of each pair.
    """

    def __init__(
        self, tables: CostTables, values: Array, metrics: Sequence[str], goal: str
    ) -> None:
        self._metrics = [tables[metric] for metric in metrics]
        used = [*self._metrics, *([tables[goal]] if goal else [])]
        self._pairs = tables.pairs if any(table.pairs for table in used) else []
        loss = np.where(np.isfinite(values), tables[goal].choices, math.inf) if goal else values
        self._columns = undominated(tables, loss, used)
        of_pairs = tables[goal].pairs if goal else ()
        self._objective = self._row(loss, of_pairs)
        links = list(self._links(tables))
        self._sides = [side for side, _ in links]
        rows = [self._row(table.choices, table.pairs) for table in self._metrics]
        self._scales = [max(float(np.abs(row).max()), 1e-300) for row in rows]
        scaled = [row / scale for row, scale in zip(rows, self._scales, strict=True)]
        limits = [{int(k): float(row[k]) for k in np.flatnonzero(row)} for row in scaled]
        linked = [row for _, row in links]
        self._matrix = _sparse([*linked, *limits], len(self._objective))
        positive = self._objective[self._objective > 0]
        self._objective /= float(np.median(positive)) if positive.size else 1.0

    def minimum(self, bounds: Mapping[str, float]) -> Genome | None:
        """The plan with the least objective within bounds of the costs, in their order."""
        rooms = [
            (bound - table.least) / scale
            for bound, table, scale in zip(
                bounds.values(), self._metrics, self._scales, strict=True
            )
        ]
        low = [*self._sides, *(-math.inf for _ in rooms)]
        constraints = LinearConstraint(self._matrix, low, [*self._sides, *rooms])  # pyright: ignore[reportArgumentType]
        result = milp(
            self._objective,
            integrality=np.ones(len(self._objective)),
            bounds=Bounds(0.0, 1.0),
            constraints=constraints,
            options={"mip_rel_gap": GAP},
        )
        if result.x is None:
            return None
        chosen = [self._columns[k] for k in np.flatnonzero(result.x[: len(self._columns)] > 0.5)]
        return tuple(i for _, i in sorted(chosen))

    def _row(self, choices: Array, pairs: Sequence[Array]) -> Array:
        """A cost as one row of the matrix."""
        first = [float(choices[g, i]) for g, i in self._columns]
        tables = pairs or [np.zeros([len(w) for w in pair.widths]) for pair in self._pairs]
        return np.concatenate([first, *(table.ravel() for table in tables)])

    def _links(self, tables: CostTables) -> Iterator[tuple[float, dict[int, float]]]:
        """Rows {column: factor} and their sums: one choice a group, pairs as either side has."""
        by_group: dict[int, dict[int, float]] = {}
        by_width: dict[tuple[int, int], dict[int, float]] = {}
        for k, (g, i) in enumerate(self._columns):
            by_group.setdefault(g, {})[k] = 1.0
            by_width.setdefault((g, tables.widths[g][i]), {})[k] = -1.0
        for row in by_group.values():
            yield 1.0, row
        start = len(self._columns)
        for pair in self._pairs:
            shape = [len(w) for w in pair.widths]
            cells = np.arange(start, start + math.prod(shape)).reshape(shape)
            start += cells.size
            for side, (g, widths) in enumerate(zip(pair.groups, pair.widths, strict=True)):
                for place, width in enumerate(widths):
                    row = {int(cell): 1.0 for cell in np.ravel(cells.take(place, side))}
                    yield 0.0, row | by_width.get((g, width), {})


def _sparse(rows: Sequence[Mapping[int, float]], width: int) -> csr_array:
    """A matrix of rows {column: value}."""
    places = [(r, column) for r, row in enumerate(rows) for column in row]
    values = [value for row in rows for value in row.values()]
    return csr_array((values, tuple(zip(*places, strict=True))), shape=(len(rows), width))


def undominated(
    tables: CostTables, loss: Array, used: Sequence[CostTable]
) -> list[tuple[int, int]]:
    """The choices (group, candidate) that no other of the group beats or equals in every respect.

    loss: (groups, candidates); an infinite one is never kept. used: the costs that count; where
    pairs do, choices of different widths are not compared.
    """
    paired = any(table.pairs for table in used)
    columns: list[tuple[int, int]] = []
    for g, group in enumerate(tables.space.groups):
        finite = [i for i in range(len(group.candidates)) if math.isfinite(loss[g, i])]
        vectors = {i: (loss[g, i], *(float(t.choices[g, i]) for t in used)) for i in finite}
        kept: list[int] = []
        for i in sorted(finite, key=lambda i: (vectors[i], i)):
            rivals = (j for j in kept if not paired or tables.widths[g][i] == tables.widths[g][j])
            if not any(
                all(a <= b for a, b in zip(vectors[j], vectors[i], strict=True)) for j in rivals
            ):
                kept.append(i)
        columns += [(g, i) for i in sorted(kept)]
    return columns
