"""The size of plans: the first cost that an objective or a limit names, and the sizes to aim at."""

from random import Random

import numpy as np

from quire.explore.limits import Terrain
from quire.explore.space import Genome


class Size:
    """A cost as a sum over the groups.

    metric: its name. shares: (groups, candidates), what each choice adds to the cheapest plan's.
    least, bound: the smallest and the largest size to aim at.
    """

    def __init__(self, terrain: Terrain) -> None:
        goal = terrain.objectives
        self.metric = terrain.named_costs[0]
        table = terrain.tables[self.metric]
        self.least, self.shares = table.least, table.choices
        most = self.least + float(self.shares.max(1).sum())
        self.bound = min(most, goal.bounds.get(self.metric, most))
        self._wanted = goal.directions.get(self.metric) == "min"

    def of(self, genome: Genome) -> float:
        """The size of a plan."""
        return self.least + float(self.shares[np.arange(len(genome)), genome].sum())

    def draw(self, random: Random) -> float:
        """A size to aim at: any within the limit if small is good, else the limit."""
        return random.uniform(self.least, self.bound) if self._wanted else self.bound

    def budgets(self, count: int) -> list[float]:
        """Sizes to aim at, evenly spaced up to the limit if small is good, else the limit alone."""
        if not self._wanted:
            return [self.bound]
        return np.linspace(self.least, self.bound, count + 1)[1:].tolist()
