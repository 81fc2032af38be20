"""The sampler "program": local moves from the plans of the integer program.

A move changes the format at one site or at two, and keeps the plan within its budget: bits that one
site gives up another one takes. Moves start from the best plan of a budget by the true
objective (hill climbing), in the order of what the sensitivities say they gain; the first to try
are those that the additive model likes best. Each move that was run corrects the sensitivities of
the formats that it brought by half of what the model was wrong (the relaxed step of Kaczmarz 1937),
so that those which disappoint go back in the order. Nothing here is drawn by chance.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from quire.explore.cost_tables import ROUNDING, Array, padded
from quire.explore.limits import Terrain
from quire.explore.sampling import STEPS, Proposal, measured_objective
from quire.explore.size import Size
from quire.explore.space import Genome

Indices = NDArray[np.intp]

BUDGETS = 20  # of a front
RELAXATION = 0.5  # share of the model's error at a move that its sensitivities take over
MOST_CHOICES = 1500  # that pairs are made of, the best by the model; 10 MB of pairs
MOST_MOVES = 3000  # of one plan, before chance takes over


class MoveProposer:
    """The sampler of this module.

    seed: of the changes by chance, for when no move is left.
    """

    def __init__(self, terrain: Terrain, seed: int) -> None:
        self._terrain, self._seed = terrain, seed
        self._objective, self._sign = measured_objective(terrain, "program")
        self._values = np.full((len(terrain.space.groups), 1), np.inf)
        self._size = Size(terrain)
        self._budgets = self._size.budgets(BUDGETS)
        self._best: list[tuple[float, Genome] | None] = [None] * len(self._budgets)
        self._turn, self._baseline = 0, 0.0

    def follow(self, values: Sequence[Sequence[float]]) -> None:
        """Go by these sensitivities: for each group, of each candidate; to an infinite one no move
        is made."""
        self._values = padded(values, np.inf)

    def learn(self, trial: FrozenTrial) -> None:
        """Take a trial as the best of the budgets for which it is; correct the sensitivities."""
        if not trial.params:
            self._baseline = self._sign * trial.values[self._objective]
            return
        turn, self._turn = self._turn, self._turn + 1
        if trial.state != TrialState.COMPLETE:
            return
        loss = self._sign * trial.values[self._objective]
        genome = self._terrain.space.genome(trial.params)
        self._correct(turn % len(self._budgets), genome, loss)
        if not self._terrain.admits(genome):
            return
        for k, budget in enumerate(self._budgets):
            best = self._best[k]
            if self._fits(genome, budget) and (best is None or loss < best[0]):
                self._best[k] = loss, genome

    def propose(self) -> Proposal | None:
        """The most promising new move for the budget whose turn it is, or else for the next one."""
        space = self._terrain.space
        for step in range(len(self._budgets)):
            k = (self._turn + step) % len(self._budgets)
            best = self._best[k]
            for genome in self._moves(best[1], self._budgets[k]) if best else ():
                if self._is_new(genome, self._budgets[k]):
                    return Proposal(genome, space.params(genome))
        return self._by_chance()

    def _is_new(self, genome: Genome, budget: float) -> bool:
        if self._terrain.is_known(genome) or not self._terrain.admits(genome):
            return False
        return self._size.exact or self._fits(genome, budget)

    def _fits(self, genome: Genome, budget: float) -> bool:
        return self._size.measured(genome) <= budget * (1 + ROUNDING)

    def _correct(self, k: int, genome: Genome, loss: float) -> None:
        """Share out the error of the model at a move from the best plan of a budget."""
        best = self._best[k]
        if best is None:
            return
        old, new = np.array(best[1]), np.array(genome)
        moved: Indices = np.flatnonzero(old != new)
        if len(moved) > 2:
            return
        after, before = self._values[moved, new[moved]], self._values[moved, old[moved]]
        if np.isfinite(after).all() and np.isfinite(before).all():
            wrong = (loss - best[0]) / self._scale(best) - float((after - before).sum())
            self._values[moved, new[moved]] += RELAXATION * wrong / max(len(moved), 1)

    def _scale(self, best: tuple[float, Genome]) -> float:
        """The objective above the baseline in units of the sensitivities, at a plan."""
        loss, genome = best
        total = float(self._values[np.arange(len(genome)), genome].sum())
        scale = (loss - self._baseline) / total if total > 0 else 1.0
        return scale if 0 < scale < np.inf else 1.0

    def _moves(self, genome: Genome, budget: float) -> Iterator[Genome]:
        """Plans with one or two other choices within the budget, the most promising first."""
        now: Indices = np.array(genome)
        groups, choices, gains = self._choices(now)
        costs = self._size.changes(genome)[groups, choices]
        room = budget * (1 + ROUNDING) - self._size.measured(genome)
        other = groups[:, None] < groups
        fits = other & (costs[:, None] + costs <= room)
        np.fill_diagonal(fits, costs <= room)  # one change alone
        pairs = gains[:, None] + gains
        np.fill_diagonal(pairs, gains)
        first, second = np.nonzero(fits)
        order = np.argsort(pairs[first, second], kind="stable")
        for k in islice(order, MOST_MOVES):
            changed = now.copy()
            for which in (first[k], second[k]):
                changed[groups[which]] = choices[which]
            yield tuple(changed.tolist())

    def _choices(self, now: Indices) -> tuple[Indices, Indices, Array]:
        """Groups, candidates other than those now, and what the model says that they add."""
        finite = np.isfinite(self._values)
        finite[np.arange(len(now)), now] = False
        places: Indices = np.argwhere(finite)
        groups, choices = places.T
        before = self._values[groups, now[groups]]
        unknown = ~np.isfinite(before)  # a plan of no sensitivity: any other choice comes first
        gains = self._values[groups, choices] - np.where(unknown, self._ceiling, before)
        if len(groups) > MOST_CHOICES:
            kept = np.sort(np.argsort(gains, kind="stable")[:MOST_CHOICES])
            groups, choices, gains = groups[kept], choices[kept], gains[kept]
        return groups, choices, gains

    @property
    def _ceiling(self) -> float:
        return float(self._values[np.isfinite(self._values)].max())

    def _by_chance(self) -> Proposal | None:
        """Where no move is left: away from a best plan until a plan is new; by the seed and the
        number of trials, so that a resumed search is the same one."""
        space, random = self._terrain.space, Random(f"{self._seed} {self._turn}")
        known = [best[1] for best in self._best if best is not None]
        genome = known[-1] if known else space.cheapest
        for _ in range(STEPS):
            genome = self._terrain.repair(space.neighbour(genome, random), random)
            if not self._terrain.is_known(genome):
                return Proposal(genome, space.params(genome))
        return None
