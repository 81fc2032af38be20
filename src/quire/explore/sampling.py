"""Where plans come from: Optuna's samplers, by name or class, and the grid."""

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol, cast

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from quire.errors import StudyError
from quire.explore.limits import Terrain
from quire.explore.objectives import DIRECTIONS
from quire.explore.space import Genome, Params

STEPS = 100  # chance moves away from a known plan before the space counts as exhausted


@dataclass(frozen=True)
class Proposal:
    """A plan to try, and what its sampler wants to see again with the result."""

    genome: Genome
    params: Params
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Proposer(Protocol):
    """Proposes plans that are new and meet the limits; learns from trials of every origin."""

    def propose(self) -> Proposal | None:
        """The next plan, or None where no other is found."""
        ...

    def learn(self, trial: FrozenTrial) -> None:
        """Take note of a finished trial."""
        ...


class GridProposer:
    """Every plan of the space, the first site varying slowest; it does not learn."""

    def __init__(self, terrain: Terrain) -> None:
        self._terrain = terrain
        indices = (range(len(group.candidates)) for group in terrain.space.groups)
        self._genomes: Iterator[Genome] = itertools.product(*indices)

    def propose(self) -> Proposal | None:
        """The next plan of the grid that is new and meets the limits."""
        for genome in self._genomes:
            if not self._terrain.is_known(genome) and self._terrain.admits(genome):
                return Proposal(genome, self._terrain.space.params(genome))
        return None

    def learn(self, trial: FrozenTrial) -> None:
        """Nothing: the order of a grid is fixed."""


class OptunaProposer:
    """An Optuna sampler at work on a study in memory.

    The sampler sees every finished trial as the record that is stored. A plan that it asks for may
    be repaired to meet the limits, so what it asked for is dropped from its study at once (marked
    as failed, which samplers pass over), and it learns from the plan that was run.
    """

    def __init__(self, terrain: Terrain, sampler: BaseSampler, random: Random) -> None:
        self._terrain, self._random = terrain, random
        self._study = optuna.create_study(
            directions=[DIRECTIONS[d] for d in terrain.objectives.directions.values()],
            sampler=sampler,
        )

    def propose(self) -> Proposal | None:
        """What the sampler asks for, repaired; moved by chance while it is a known plan."""
        space = self._terrain.space
        asked = self._study.tell(self._study.ask(space.distributions), state=TrialState.FAIL)
        genome = space.genome(asked.params)
        for _ in range(STEPS):
            genome = self._terrain.repair(genome, self._random)
            if not self._terrain.is_known(genome):
                return Proposal(genome, space.params(genome, asked.params), asked.system_attrs)
            genome = space.neighbour(genome, self._random)
        return None

    def learn(self, trial: FrozenTrial) -> None:
        """Show a finished trial to the sampler; the baseline is not in the space."""
        if trial.params:
            self._study.add_trial(trial)


OWN = ("guided", "program")
"""The samplers of Quire, which need more than a terrain."""

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
}


def measured_objective(terrain: Terrain, sampler: str) -> tuple[int, float]:
    """Which objective `evaluate` measures, the first such, and the sign that makes less better.

    Raises StudyError, in the name of `sampler`, where there is none.
    """
    goal = terrain.objectives
    measured = [m for m in goal.directions if m not in terrain.cost_names]
    if not measured:
        raise StudyError(
            f"sampler {sampler!r} needs an objective that evaluate measures; "
            f"{', '.join(goal.directions)} cost nothing to compute: take nsga2"
        )
    sign = -1.0 if goal.directions[measured[0]] == "max" else 1.0
    return list(goal.directions).index(measured[0]), sign


def make_proposer(sampler: str | BaseSampler, terrain: Terrain, seed: int) -> Proposer:
    """The proposer of a name ("tpe", "nsga2", "random", "grid"), an Optuna class name or sampler.

    Raises StudyError for an unknown name and for a class that cannot be made from a seed alone.
    """
    if sampler == "grid":
        return GridProposer(terrain)
    if isinstance(sampler, str):
        sampler = _sampler(sampler, seed)
    if not isinstance(sampler, BaseSampler):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise StudyError(f"sampler {sampler!r} is neither a name nor an optuna.samplers object")
    return OptunaProposer(terrain, sampler, Random(seed))


def _sampler(name: str, seed: int) -> BaseSampler:
    if name in SAMPLERS:
        return SAMPLERS[name](seed)
    found = getattr(optuna.samplers, name, None)
    if not (isinstance(found, type) and issubclass(found, BaseSampler)):
        names = (n for n in optuna.samplers.__all__ if n.endswith("Sampler"))
        classes = ", ".join(n for n in names if not n.startswith(("Base", "Grid", "PartialFixed")))
        raise StudyError(
            f"sampler {name!r} is unknown: give {', '.join([*OWN, *SAMPLERS, 'grid'])}, "
            f"or one of Optuna's classes: {classes}"
        )
    try:
        with warnings.catch_warnings():  # the name was asked for, experimental or not
            warnings.simplefilter("ignore", ExperimentalWarning)
            return cast("Callable[..., BaseSampler]", found)(seed=seed)
    except (TypeError, ImportError) as error:
        raise StudyError(f"sampler {name}: {error}; pass a sampler object instead") from error
