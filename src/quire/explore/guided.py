"""A sampler for plans: learns how much the noise at each site matters, then spends bits there.

The model of a plan's loss above the baseline is a sum over the sites, s_g n_g(c): n_g(c) is the
energy of the error that format c makes on the site's data, relative to the energy of the data,
and s_g >= 0 is what that costs the network. The n are computed before the first trial; the s are
fitted, in the logarithm, to all trials so far. A proposal takes a random size, and the plan that is
best at that size for one draw of s (a Bayesian bootstrap: trials weighted at random, Rubin 1981);
the choice is exact but for the granularity of a Lagrange multiplier (Everett 1963). On average one
site is then changed by chance, for what the model does not see.
"""

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from quire.errors import StudyError
from quire.explore.limits import Terrain
from quire.explore.sampling import STEPS, Proposal
from quire.explore.space import Genome

FLOOR = 0.02  # of the median excess: differences below it are taken for noise of the metric
SPREAD = 2.0  # prior variance of log s between sites
RESIDUAL = 0.1  # variance of the log of a loss around the model

Array = NDArray[np.float64]


class GuidedProposer:
    """The sampler of this module.

    noise: for each group, the relative error energy of each candidate.
    """

    def __init__(self, terrain: Terrain, noise: Sequence[Sequence[float]], seed: int) -> None:
        goal = terrain.objectives
        measured = [m for m in goal.directions if m not in terrain.cost_names]
        if not measured:
            raise StudyError(
                "sampler 'guided' needs an objective that evaluate measures; "
                f"{', '.join(goal.directions)} cost nothing to compute: take nsga2"
            )
        self._terrain, self._random = terrain, Random(seed)
        self._generator = np.random.default_rng(seed)
        self._objective = list(goal.directions).index(measured[0])
        self._sign = -1.0 if goal.directions[measured[0]] == "max" else 1.0
        self._noise = [np.asarray(row, np.float64) for row in noise]
        self._size = _Size(terrain)
        self._baseline = 0.0
        self._rows: list[Array] = []
        self._losses: list[float] = []
        self._sensitivity = np.zeros(len(noise))

    def learn(self, trial: FrozenTrial) -> None:
        """Add a trial to what the model is fitted to; the first is the baseline."""
        if trial.state != TrialState.COMPLETE:
            return
        loss = self._sign * trial.values[self._objective]
        if not trial.params:
            self._baseline = loss
            return
        genome = self._terrain.space.genome(trial.params)
        self._rows.append(np.array([n[i] for n, i in zip(self._noise, genome, strict=True)]))
        self._losses.append(loss)

    def propose(self) -> Proposal | None:
        """The best plan of a random size, slightly changed."""
        space = self._terrain.space
        if self._losses:
            self._sensitivity = self._draw()
        for _ in range(STEPS):
            genome = self._best_of_size(self._size.draw(self._random))
            while self._random.random() < 0.5:
                genome = space.neighbour(genome, self._random)
            genome = self._terrain.repair(genome, self._random)
            if not self._terrain.is_known(genome):
                return Proposal(genome, space.params(genome))
        return None

    def _best_of_size(self, size: float) -> Genome:
        """The least modelled loss within `size`, by bisection of the price of size."""
        losses = [np.exp(s) * n for s, n in zip(self._sensitivity, self._noise, strict=True)]
        low, high = -15.0, 15.0  # log10 of the price
        for _ in range(40):
            price = (low + high) / 2
            fits = self._size.of(self._cheapest(losses, 10**price)) <= size
            low, high = (low, price) if fits else (price, high)
        return self._cheapest(losses, 10**high)

    def _cheapest(self, losses: Sequence[Array], price: float) -> Genome:
        pairs = zip(losses, self._size.shares, strict=True)
        return tuple(int(np.argmin(loss + price * share)) for loss, share in pairs)

    def _draw(self) -> Array:
        """log s of every group, the most likely for randomly weighted trials."""
        excess = torch.tensor(self._losses, dtype=torch.float64) - self._baseline
        floor = max(FLOOR * float(excess.abs().median()), 1e-12)
        target = excess.clamp_min(floor).log()
        noise = torch.from_numpy(np.array(self._rows))
        weights = torch.from_numpy(self._generator.exponential(size=len(self._losses)))
        centre = (target - noise.sum(1).clamp_min(1e-12).log()).mean()
        log_s = (centre + torch.zeros(noise.shape[1], dtype=torch.float64)).requires_grad_()
        optimizer = torch.optim.LBFGS([log_s], max_iter=25, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            modelled = (noise @ log_s.exp() + floor).log()
            misfit = (weights * (modelled - target).square()).sum() / RESIDUAL
            total = misfit + (log_s - centre).square().sum() / SPREAD
            total.backward()
            return total

        with torch.enable_grad():
            optimizer.step(loss)
        return log_s.detach().numpy()


class _Size:
    """The first cost that an objective or a limit names, as a sum over the groups.

    shares: for each group, what each candidate adds to the cost of the cheapest plan.
    """

    def __init__(self, terrain: Terrain) -> None:
        goal, space = terrain.objectives, terrain.space
        named = [m for m in (*goal.directions, *goal.limits) if m in terrain.cost_names]
        self._metric = named[0] if named else terrain.cost_names[0]
        self._least = terrain.costs(space.cheapest)[self._metric]
        self.shares = [self._group_shares(terrain, g) for g in range(len(space.groups))]
        most = self._least + sum(float(share.max()) for share in self.shares)
        self._bound = min(most, goal.limits.get(self._metric, most))
        self._wanted = goal.directions.get(self._metric) == "min"

    def _group_shares(self, terrain: Terrain, g: int) -> Array:
        genome = list(terrain.space.cheapest)
        costs: list[float] = []
        for i in range(len(terrain.space.groups[g].candidates)):
            genome[g] = i
            costs.append(terrain.costs(tuple(genome))[self._metric])
        return np.array(costs) - self._least

    def of(self, genome: Genome) -> float:
        """The cost of a plan."""
        pairs = zip(self.shares, genome, strict=True)
        return self._least + sum(float(share[i]) for share, i in pairs)

    def draw(self, random: Random) -> float:
        """A size to aim at: any within the limit if small is good, else the limit."""
        return random.uniform(self._least, self._bound) if self._wanted else self._bound
