"""The size of plans: the first cost that an objective or a limit names, and the sizes to aim at."""

from random import Random

import numpy as np

from quire.explore.cost_tables import Array
from quire.explore.limits import Terrain
from quire.explore.space import Genome


class Size:
    """A cost as a sum over the groups.

    metric: its name. shares: (groups, candidates), what each choice adds to that of a base.
    exact: whether sizes are sums over choices and pairs of them, so that `changes` are exact.
    least, bound: the smallest and the largest size to aim at.
    """

    def __init__(self, terrain: Terrain) -> None:
        goal = terrain.objectives
        self.metric = terrain.named_costs[0]
        self._terrain, self._table = terrain, terrain.tables[self.metric]
        self.shares = self._table.choices
        self._base = self._table.least
        self.least = self._base + float(self.shares.min(1).sum())
        self.exact = self._table.exact
        finite = np.where(np.isfinite(self.shares), self.shares, -np.inf)
        most = self._base + float(finite.max(1).sum())
        self.bound = min(most, goal.bounds.get(self.metric, most))
        self._wanted = goal.directions.get(self.metric) == "min"

    def of(self, genome: Genome) -> float:
        """The sum of the shares of a plan; its size, but for what pairs of choices add."""
        return self._base + float(self.shares[np.arange(len(genome)), genome].sum())

    def measured(self, genome: Genome) -> float:
        """The size of a plan."""
        return self._terrain.costs(genome)[self.metric]

    def changes(self, genome: Genome) -> Array:
        """(groups, candidates): what each choice in place of a plan's own adds to its size."""
        found = self.shares - self.shares[np.arange(len(genome)), genome][:, None]
        for pairing, extra in self._table.pairs.items():
            cell = pairing.cell(genome)
            for side, (g, kinds) in enumerate(zip(pairing.groups, pairing.kinds, strict=True)):
                beside = (extra.T if side else extra)[list(kinds), cell[1 - side]]
                now = extra[cell] if np.isfinite(extra[cell]) else 0.0
                found[g, : len(kinds)] += beside - now
        return found

    def draw(self, random: Random) -> float:
        """A size to aim at: any within the limit if small is good, else the limit."""
        return random.uniform(self.least, self.bound) if self._wanted else self.bound

    def budgets(self, count: int) -> list[float]:
        """Sizes to aim at, evenly spaced up to the limit if small is good, else the limit alone."""
        if not self._wanted:
            return [self.bound]
        return np.linspace(self.least, self.bound, count + 1)[1:].tolist()
