"""The integer program of a search: the plan with the least sum of sensitivities within limits.

A plan takes one candidate at each group, so that this is a multiple-choice knapsack (Kellerer,
Pferschy and Pisinger 2004, chapter 11), posed for bit widths by HAWQ-V3 (Yao et al. 2021) and
solved by SciPy's HiGHS. A cost that is a sum over pairs of choices has a variable for each two
kinds of a pair, such as widths; these sum to the choices on either side, which is exact, and
tighter than McCormick's inequalities. A limit on a maximum, such as the cycles of the slowest stage
of a dataflow, is a limit on each of its parts.

What is no sum (the header of a checkpoint in `memory`) is approached by a table, and its limit is
tightened until the plan meets it. So a plan that is returned meets its limits always, and is the
best one where the costs are sums, or maxima of sums.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from quire.errors import StudyError
from quire.explore.cost_tables import ROUNDING, Array, CostTable, CostTables, padded
from quire.explore.space import Genome

GAP = 1e-6  # relative, within which HiGHS calls a plan the best
TIGHTENINGS = 20  # the most plans in a row that may break a limit on what is no sum
MOST_REFUSED = 200  # plans that the cost function may refuse though the tables do not know


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
        self._refused: list[Genome] = []

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
        bounds, tightenings = dict(limits), 0
        while tightenings < TIGHTENINGS and len(self._refused) < MOST_REFUSED:
            genome = self._minimum(tuple(limits), goal, bounds)
            if genome is None:
                break
            if genome in self._refused:
                continue
            broken = self._broken(genome, limits)
            if not broken:
                return genome
            tightenings += 1
            for metric, excess in broken.items():
                bounds[metric] -= max(excess, ROUNDING * abs(limits[metric]))
        return self._smallest(limits)

    def _minimum(
        self, metrics: tuple[str, ...], goal: str, bounds: Mapping[str, float]
    ) -> Genome | None:
        """The least plan by a knapsack; one that the cost function refuses is noted."""
        genome = self._knapsack(metrics, goal).minimum(bounds, self._refused)
        if genome is not None and not all(map(math.isfinite, self.tables.of(genome).values())):
            self._refused.append(genome)
        return genome

    def _smallest(self, limits: Mapping[str, float]) -> Genome | None:
        """Where tightening leaves no plan, one with the least sum of a cost that is no sum."""
        for metric in (m for m in limits if not all(t.exact for t in self.tables.parts(m))):
            others = {m: bound for m, bound in limits.items() if m != metric}
            genome = self._minimum(tuple(others), metric, others)
            if genome is None or genome in self._refused:
                continue
            if not self._broken(genome, limits):
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
        if not limits:
            return "the cost function refuses every plan that was tried: ask it about a uniform one"
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

    Its columns are the choices that no other dominates, then the pairs of kinds of each pairing,
    and last the value of the goal.
    """

    def __init__(
        self, tables: CostTables, values: Array, metrics: Sequence[str], goal: str
    ) -> None:
        self._limits = [(metric, table) for metric in metrics for table in tables.parts(metric)]
        goals = tables.parts(goal) if goal else []
        used = [*(table for _, table in self._limits), *goals, *tables.refusals]
        loss = np.where(np.isfinite(values), 0.0, math.inf) if goal else values
        self._columns = undominated(tables, loss, used)
        self._places = {choice: k for k, choice in enumerate(self._columns)}
        _check_columns(tables, self._columns)
        self._pairings = list(dict.fromkeys(pairing for table in used for pairing in table.pairs))
        self._width = len(self._columns) + sum(math.prod(p.shape) for p in self._pairings) + 1
        losses = CostTable(0.0, np.where(np.isfinite(loss), loss, 0.0), {})
        aims, self._objective = self._aims(goals or [losses])
        links = list(self._links())
        rows = [self._row(table) for _, table in self._limits]
        self._scales = [float(np.abs(row).max()) or 1.0 for row in rows]
        scaled = [row / scale for row, scale in zip(rows, self._scales, strict=True)]
        self._low = [*(side for side, _ in links), *(-math.inf for _ in [*aims, *rows])]
        self._high = [*(side for side, _ in links), *(side for side, _ in aims)]
        self._rows = [*(row for _, row in links), *(row for _, row in aims), *map(_nonzero, scaled)]
        self._most = np.where(self._forbidden(used), 0.0, 1.0)
        self._most[-1] = math.inf

    def minimum(self, bounds: Mapping[str, float], refused: Sequence[Genome] = ()) -> Genome | None:
        """The least plan within bounds of the costs, other than those refused."""
        rooms = [
            (bounds[metric] - table.least) / scale
            for (metric, table), scale in zip(self._limits, self._scales, strict=True)
        ]
        cuts = [cut for genome in refused if (cut := self._cut(genome))]
        matrix = _sparse([*self._rows, *cuts], self._width)
        sums = [*self._high, *rooms, *(len(cut) - 1.0 for cut in cuts)]
        low = np.zeros(self._width)
        low[-1] = -math.inf
        whole = np.ones(self._width)
        whole[-1] = 0.0
        result = milp(
            self._objective,
            integrality=whole,
            bounds=Bounds(low, self._most),  # pyright: ignore[reportArgumentType]
            constraints=LinearConstraint(matrix, [*self._low, *(-math.inf for _ in cuts)], sums),  # pyright: ignore[reportArgumentType]
            options={"mip_rel_gap": GAP},
        )
        if result.x is None:
            return None
        chosen = [self._columns[k] for k in np.flatnonzero(result.x[: len(self._columns)] > 0.5)]
        return tuple(i for _, i in sorted(chosen))

    def _cut(self, genome: Genome) -> dict[int, float]:
        """The row of a plan's choices; empty where one of them is no column."""
        places = [self._places.get(choice) for choice in enumerate(genome)]
        return {} if None in places else {k: 1.0 for k in places if k is not None}

    def _aims(
        self, goals: Sequence[CostTable]
    ) -> tuple[list[tuple[float, dict[int, float]]], Array]:
        """The objective; of a maximum the last column, which rows hold above each part."""
        rows = [self._row(table) for table in goals]
        if len(rows) == 1:
            (row,) = rows
            positive = row[row > 0]
            return [], row / (float(np.median(positive)) if positive.size else 1.0)
        unit = max(float(np.abs(row).max()) for row in rows) or 1.0
        last = np.eye(self._width)[-1]
        pairs = zip(rows, goals, strict=True)
        return [(-table.least / unit, _nonzero(row / unit - last)) for row, table in pairs], last

    def _row(self, table: CostTable) -> Array:
        """A cost as one row of the matrix; what is forbidden has no matter."""
        first = np.array([table.choices[g, i] for g, i in self._columns])
        empty = (np.zeros(pairing.shape) for pairing in self._pairings)
        cells = [table.pairs.get(p, e).ravel() for p, e in zip(self._pairings, empty, strict=True)]
        row = np.concatenate([first, *cells, [0.0]])
        return np.where(np.isfinite(row), row, 0.0)

    def _forbidden(self, used: Sequence[CostTable]) -> NDArray[np.bool_]:
        """The columns that no plan may take: pairs that the cost function refuses."""
        found = np.zeros(self._width, dtype=bool)
        start = len(self._columns)
        for pairing in self._pairings:
            cells = slice(start, start + math.prod(pairing.shape))
            for table in used:
                if pairing in table.pairs:
                    found[cells] |= ~np.isfinite(table.pairs[pairing].ravel())
            start = cells.stop
        return found

    def _links(self) -> Iterator[tuple[float, dict[int, float]]]:
        """Rows {column: factor} and their sums: one choice a group, pairs as either side has."""
        by_group: dict[int, list[tuple[int, int]]] = {}
        for k, (g, i) in enumerate(self._columns):
            by_group.setdefault(g, []).append((k, i))
        for choices in by_group.values():
            yield 1.0, dict.fromkeys((k for k, _ in choices), 1.0)
        start = len(self._columns)
        for pairing in self._pairings:
            cells = np.arange(start, start + math.prod(pairing.shape)).reshape(pairing.shape)
            start += cells.size
            for side, (g, kinds) in enumerate(zip(pairing.groups, pairing.kinds, strict=True)):
                for kind in range(pairing.shape[side]):
                    row = {int(cell): 1.0 for cell in np.ravel(cells.take(kind, side))}
                    yield 0.0, row | {k: -1.0 for k, i in by_group[g] if kinds[i] == kind}


def _check_columns(tables: CostTables, columns: Sequence[tuple[int, int]]) -> None:
    """Raise StudyError where a group has no choice that the cost function and the outputs take."""
    left = {g for g, _ in columns}
    for g, group in enumerate(tables.space.groups):
        if g not in left:
            raise StudyError(
                f"site {group.name}: of its formats, {[c.format for c in group.candidates]}, those "
                "that the cost function takes have no finite sensitivity: add one"
            )


def _nonzero(row: Array) -> dict[int, float]:
    """A row as {column: value}."""
    return {int(k): float(row[k]) for k in np.flatnonzero(row)}


def _sparse(rows: Sequence[Mapping[int, float]], width: int) -> csr_array:
    """A matrix of rows {column: value}."""
    places = [(r, column) for r, row in enumerate(rows) for column in row]
    values = [value for row in rows for value in row.values()]
    return csr_array((values, tuple(zip(*places, strict=True))), shape=(len(rows), width))


def undominated(
    tables: CostTables, loss: Array, used: Sequence[CostTable]
) -> list[tuple[int, int]]:
    """The choices (group, candidate) that no other of the group beats or equals in every respect.

    loss: (groups, candidates). used: the costs that count; where pairs do, choices of different
    kinds are not compared. One whose loss or cost is infinite is never kept.
    """
    kinds = _kinds(tables, used)
    columns: list[tuple[int, int]] = []
    for g, group in enumerate(tables.space.groups):
        vectors = [
            (float(loss[g, i]), *(float(t.choices[g, i]) for t in used))
            for i in range(len(group.candidates))
        ]
        finite = [i for i, vector in enumerate(vectors) if all(map(math.isfinite, vector))]
        kept: list[int] = []
        for i in sorted(finite, key=lambda i: (vectors[i], i)):
            rivals = (j for j in kept if kinds[g][i] == kinds[g][j])
            if not any(
                all(a <= b for a, b in zip(vectors[j], vectors[i], strict=True)) for j in rivals
            ):
                kept.append(i)
        columns += [(g, i) for i in sorted(kept)]
    return columns


def _kinds(tables: CostTables, used: Sequence[CostTable]) -> list[list[tuple[int, ...]]]:
    """For each group, of each candidate, its kinds in all pairings."""
    kinds: list[list[tuple[int, ...]]] = [[() for _ in g.candidates] for g in tables.space.groups]
    for pairing in dict.fromkeys(pairing for table in used for pairing in table.pairs):
        for g, own in zip(pairing.groups, pairing.kinds, strict=True):
            kinds[g] = [(*before, kind) for before, kind in zip(kinds[g], own, strict=True)]
    return kinds
