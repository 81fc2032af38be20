"""Which plans are worth a run: new ones that meet the limits on what costs nothing to compute."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from random import Random
from typing import Any

from quire.errors import StudyError
from quire.explore.cost_tables import Costs, CostTables
from quire.explore.objectives import Objectives
from quire.explore.program import Program
from quire.explore.space import Genome, Space
from quire.precision import Cost


class Terrain:
    """The plans of a space, the limits on their costs, and the plans that have been tried.

    costs: the metrics of {site: format string} that need no run (`CostTables`).
    progress: whether a line shows when costs take seconds.
    Raises StudyError where no plan meets the limits.
    """

    def __init__(
        self, space: Space, objectives: Objectives, costs: Costs, progress: bool = False
    ) -> None:
        self.space = space
        self.objectives = objectives
        self.tables = CostTables(space, costs, progress)
        self.cost_names = tuple(self.tables.least)
        self._tried: set[tuple[str, ...]] = set()
        self._reserved: set[tuple[str, ...]] = set()
        self.fallback = self._some_plan()

    def _some_plan(self) -> Genome:
        """A plan within the limits: the smallest formats, what the integer program finds, or, for
        lower limits on costs, a uniform plan or the largest formats."""
        space = self.space
        for genome in (space.cheapest, self.tables.base):
            if self.admits(genome):
                return genome
        free = [[0.0] * len(group.candidates) for group in space.groups]
        found = Program(self.tables, free).solve(self.upper_limits)
        dearest = tuple(group.by_bits[-1] for group in space.groups)
        for genome in (found, *space.uniform().values(), dearest):
            if self.admits(genome):
                return genome
        excess = self.objectives.excess(self.costs(found))
        words = " and ".join(f"{m} ({self.costs(found)[m]:.6g})" for m in excess if excess[m] > 0)
        raise StudyError(f"no plan was found that meets the limit on {words}: lower it")

    @property
    def upper_limits(self) -> dict[str, float]:
        """The limits on costs that are upper bounds, which the integer program takes."""
        bounds, lower = self.objectives.bounds, self.objectives.lower
        return {m: bounds[m] for m in self.cost_names if m in bounds and m not in lower}

    @property
    def named_costs(self) -> list[str]:
        """The costs that objectives or limits name; where none does, the first."""
        named = dict.fromkeys(m for m in self.objectives.names if m in self.cost_names)
        return list(named) or [self.cost_names[0]]

    def costs(self, genome: Genome) -> Mapping[str, float]:
        """The costs of a plan by name."""
        return self.tables.of(genome)

    def admits(self, genome: Genome) -> bool:
        """Whether a plan meets the limits on costs, and the cost function takes it."""
        costs = self.costs(genome)
        return self.objectives.admits(costs) and all(map(math.isfinite, costs.values()))

    def is_known(self, genome: Genome) -> bool:
        """Whether a plan has been tried, or is about to be."""
        plan = tuple(self.space.formats(genome).values())
        return plan in self._tried or plan in self._reserved

    def remember(self, formats: Mapping[str, str]) -> None:
        """Count {site: format string} as tried."""
        self._tried.add(tuple(formats.values()))

    def reserve(self, plans: Iterable[Mapping[str, str]]) -> None:
        """Count plans as tried until the next call, which gives others."""
        self._reserved = {tuple(formats.values()) for formats in plans}

    def describe(self) -> dict[str, Any]:
        """What a study must have in common with this terrain to go on."""
        goal, own = self.objectives, {field.name for field in fields(Cost)}
        handed = {name: cost for name, cost in self.tables.least.items() if name not in own}
        return {
            "objectives": dict(goal.directions),
            "limits": dict(goal.limits),
            **({"costs of the smallest formats": handed} if handed else {}),
            **self.space.describe(),
        }

    def repair(self, genome: Genome, random: Random) -> Genome:
        """A plan that meets the limits: `genome` with as few formats made smaller as will do.

        Sites are taken in random order, each step to a random smaller format. Along the way each
        plan is smaller than the one before, so the first that meets the limits is bisected.
        """
        if self.admits(genome):
            return genome
        # Formats of equal size, and costs that grow where bits fall, may leave the last one out.
        path = [*_way_down(genome, self.space, random), self.fallback]
        bad, good = 0, len(path) - 1  # path[bad] breaks a limit, path[good] meets all
        while good - bad > 1:
            middle = (bad + good) // 2
            bad, good = (bad, middle) if self.admits(path[middle]) else (middle, good)
        return path[good]


def _way_down(genome: Genome, space: Space, random: Random) -> list[Genome]:
    """Plans from `genome` to the cheapest one, one site changed at a time."""
    now, path = list(genome), [genome]
    smaller = [group.smaller(i) for group, i in zip(space.groups, now, strict=True)]
    while open_groups := [g for g, choices in enumerate(smaller) if choices]:
        g = random.choice(open_groups)
        now[g] = random.choice(smaller[g])
        smaller[g] = space.groups[g].smaller(now[g])
        path.append(tuple(now))
    return path
