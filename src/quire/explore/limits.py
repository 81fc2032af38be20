"""Which plans are worth a run: new ones that meet the limits on what costs nothing to compute."""

from collections.abc import Mapping
from random import Random
from typing import Any

from quire.errors import StudyError
from quire.explore.cost_tables import Costs, CostTables
from quire.explore.objectives import Objectives
from quire.explore.space import Genome, Space


class Terrain:
    """The plans of a space, the limits on their costs, and the plans that have been tried.

    costs: the metrics of {site: format string} that need no run.
    Raises StudyError where even the plan of the smallest formats breaks a limit.
    """

    def __init__(self, space: Space, objectives: Objectives, costs: Costs) -> None:
        self.space = space
        self.objectives = objectives
        self.tables = CostTables(space, costs)
        self.cost_names = tuple(self.costs(space.cheapest))
        self._tried: set[tuple[str, ...]] = set()
        if not self.admits(space.cheapest):
            least = self.costs(space.cheapest)
            broken = [m for m, excess in objectives.excess(least).items() if excess > 0]
            words = ", ".join(f"{m} {least[m]:.6g}, not {objectives.bounds[m]:.6g}" for m in broken)
            raise StudyError(
                f"no plan meets the limits: the smallest formats give {words}; "
                "raise the limit, add a smaller format, or search more sites"
            )

    @property
    def named_costs(self) -> list[str]:
        """The costs that objectives or limits name; where none does, the first."""
        named = dict.fromkeys(m for m in self.objectives.names if m in self.cost_names)
        return list(named) or [self.cost_names[0]]

    def costs(self, genome: Genome) -> Mapping[str, float]:
        """The costs of a plan by name."""
        return self.tables.of(genome)

    def admits(self, genome: Genome) -> bool:
        """Whether a plan meets the limits on costs."""
        if not self.objectives.limits:
            return True
        return self.objectives.admits(self.costs(genome))

    def is_known(self, genome: Genome) -> bool:
        """Whether a plan has been tried."""
        return tuple(self.space.formats(genome).values()) in self._tried

    def remember(self, formats: Mapping[str, str]) -> None:
        """Count {site: format string} as tried."""
        self._tried.add(tuple(formats.values()))

    def describe(self) -> dict[str, Any]:
        """What a study must have in common with this terrain to go on."""
        goal = self.objectives
        return {
            "objectives": dict(goal.directions),
            "limits": dict(goal.limits),
            **self.space.describe(),
        }

    def repair(self, genome: Genome, random: Random) -> Genome:
        """A plan that meets the limits: `genome` with as few formats made smaller as will do.

        Sites are taken in random order, each step to a random smaller format. Along the way each
        plan is smaller than the one before, so the first that meets the limits is bisected.
        """
        if self.admits(genome):
            return genome
        path = _way_down(genome, self.space, random)
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
    return [*path, space.cheapest]  # formats of equal size may differ from it
