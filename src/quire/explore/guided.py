"""A sampler for plans: learns how much the noise at each site matters, then spends bits there.

The model of a plan's loss above the baseline is a sum over the sites, s_g n_g(c): n_g(c) is the
energy of the error that format c makes on the site's data, relative to the energy of the data,
and s_g >= 0 is what that costs the network. The n are computed before the first trial; the s are
fitted, in the logarithm, to all trials so far. A proposal takes a random size, and the plan that is
best at that size for one draw of s (a Bayesian bootstrap: trials weighted at random, Rubin 1981);
the choice is exact but for the granularity of a Lagrange multiplier (Everett 1963). Most proposals
choose anew at a few sites only, and keep the best trial of that size at the others (large
neighbourhood search, Shaw 1998). On average one site is then changed by chance, for what the model
does not see.
"""

from collections.abc import Sequence
from random import Random

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from quire.explore.cost_tables import Array, padded
from quire.explore.limits import Terrain
from quire.explore.sampling import STEPS, Proposal, measured_objective
from quire.explore.size import Size
from quire.explore.space import Genome

FLOOR = 0.2  # of the median excess: a plan below it is good, how good is noise of the metric
LOCAL = 0.8  # share of the proposals that change the best trial of a size
FREE = 6  # the most sites at which they choose anew
FIT_STEPS = 12  # each changes log s by at most 1; the fit needs no more digits than a draw
SPREAD = 2.0  # prior variance of log s between sites
RESIDUAL = 0.1  # variance of the log of a loss around the model


class GuidedProposer:
    """The sampler of this module.

    noise: for each group, the relative error energy of each candidate.
    """

    def __init__(self, terrain: Terrain, noise: Sequence[Sequence[float]], seed: int) -> None:
        self._terrain, self._random = terrain, Random(seed)
        self._generator = np.random.default_rng(seed)
        self._objective, self._sign = measured_objective(terrain, "guided")
        self._noise = padded(noise, np.inf)
        self._size = Size(terrain)
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
        self._rows.append(self._noise[np.arange(len(genome)), genome])

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
        losses = np.exp(self._sensitivity)[:, None] * self._noise
        known = [trial for trial in self._tried if trial[1] <= size]
        if known and self._random.random() < LOCAL:
            _, _, best = min(known)
            free = self._random.randint(1, min(FREE, len(best)))
            kept = self._random.sample(range(len(best)), len(best) - free)
            losses[kept] = np.where(np.eye(losses.shape[1])[list(best)], losses, np.inf)[kept]
        return self._best_of_size(losses, size)

    def _best_of_size(self, losses: Array, size: float) -> Genome:
        """The least modelled loss within `size`, by bisection of the price of size."""
        low, high = -15.0, 15.0  # log10 of the price
        for _ in range(40):
            price = (low + high) / 2
            fits = self._size.of(self._cheapest(losses, 10**price)) <= size
            low, high = (low, price) if fits else (price, high)
        return self._cheapest(losses, 10**high)

    def _cheapest(self, losses: Array, price: float) -> Genome:
        return tuple((losses + price * self._size.shares).argmin(1).tolist())

    def _draw(self) -> Array:
        """log s of every group, the most likely for randomly weighted trials."""
        excess = np.array([loss for loss, _, _ in self._tried]) - self._baseline
        floor = max(FLOOR * float(np.median(np.abs(excess))), 1e-12)
        weights = self._generator.exponential(size=len(excess))
        return _fit(np.array(self._rows), np.maximum(excess, floor), floor, weights)


def _fit(noise: Array, excess: Array, floor: float, weights: Array) -> Array:
    """The log s that explain the excess of trials (rows) best, by Gauss-Newton steps."""
    target = np.log(excess)
    centre = float((target - np.log(np.maximum(noise.sum(1), 1e-12))).mean())
    log_s = np.full(noise.shape[1], centre)
    for _ in range(FIT_STEPS):
        parts = noise * np.exp(log_s)
        modelled = parts.sum(1) + floor
        slope = parts / modelled[:, None]
        misfit = np.log(modelled) - target
        gradient = slope.T @ (weights * misfit) / RESIDUAL + (log_s - centre) / SPREAD
        curvature = (slope.T * weights) @ slope / RESIDUAL + np.eye(len(log_s)) / SPREAD
        log_s -= np.clip(np.linalg.solve(curvature, gradient), -1, 1)
    return log_s
