"""A sampler for plans: learns how much the noise at each site matters, then spends bits there.

The model of a plan's loss above the baseline is a sum over the sites, s_g n_g(c): n_g(c) is the
energy of the error that format c makes on the site's data, relative to the energy of the data,
and s_g >= 0 is what that costs the network. The n are computed before the first trial; the s are
fitted, in the logarithm, to all trials so far. A proposal takes a random size, and the plan that is
best at that size for one draw of s (a Bayesian bootstrap: trials weighted at random, Rubin 1981);
the choice is exact but for the granularity of a Lagrange multiplier (Everett 1963). Half of the
proposals choose anew at a few sites only, and keep the best trial of that size at the others (large
neighbourhood search, Shaw 1998). On average one site is then changed by chance, for what the model
does not see.
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
LOCAL = 0.5  # share of the proposals that change the best trial of a size
FREE = 8  # the most sites at which they choose anew
STEEPEST = 60.0  # |log s| that floating point bears; a fit to few trials can leave it
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
        self._tried: list[tuple[float, float, Genome]] = []  # loss, size, plan
        self._rows: list[Array] = []
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
        self._tried.append((loss, self._size.of(genome), genome))
        self._rows.append(np.array([n[i] for n, i in zip(self._noise, genome, strict=True)]))

    def propose(self) -> Proposal | None:
        """The best plan of a random size, slightly changed."""
        space = self._terrain.space
        if self._tried:
            self._sensitivity = self._draw()
        for _ in range(STEPS):
            genome = self._guess(self._size.draw(self._random))
            while self._random.random() < 0.5:
                genome = space.neighbour(genome, self._random)
            genome = self._terrain.repair(genome, self._random)
            if not self._terrain.is_known(genome):
                return Proposal(genome, space.params(genome))
        return None

    def _guess(self, size: float) -> Genome:
        """What the model finds best within `size`, at all sites or at a few of the best trial."""
        losses = [np.exp(s) * n for s, n in zip(self._sensitivity, self._noise, strict=True)]
        known = [trial for trial in self._tried if trial[1] <= size]
        if known and self._random.random() < LOCAL:
            _, _, best = min(known)
            free = self._random.randint(1, min(FREE, len(best)))
            for g in self._random.sample(range(len(best)), len(best) - free):
                others = np.arange(len(losses[g])) != best[g]
                losses[g] = np.where(others, np.inf, losses[g])
        return self._best_of_size(losses, size)

    def _best_of_size(self, losses: Sequence[Array], size: float) -> Genome:
        """The least modelled loss within `size`, by bisection of the price of size."""
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
        excess = torch.tensor([t[0] for t in self._tried], dtype=torch.float64) - self._baseline
        floor = max(FLOOR * float(excess.abs().median()), 1e-12)
        target = excess.clamp_min(floor).log()
        noise = torch.from_numpy(np.array(self._rows))
        weights = torch.from_numpy(self._generator.exponential(size=len(self._tried)))
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
        return log_s.detach().nan_to_num().clamp(-STEEPEST, STEEPEST).numpy()


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
