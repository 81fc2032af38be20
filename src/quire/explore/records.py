"""Trials and studies as Optuna's records."""

import json
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from quire.errors import StudyError
from quire.explore.limits import Terrain
from quire.explore.objectives import DIRECTIONS, Objectives
from quire.explore.sampling import Proposal
from quire.explore.storage import open_storage
from quire.explore.trial import Trial

ATTRIBUTE = "quire"
"""The key under which a study, and each trial, keeps what Optuna has no place for."""


def to_record(trial: Trial, terrain: Terrain, proposal: Proposal | None) -> FrozenTrial:
    """The record of a trial; without a proposal (the baseline) it has no parameters."""
    complete = trial.state == "complete"
    goal = terrain.objectives
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.FAIL,
        values=goal.values(trial.metrics) if complete else None,
        params=dict(proposal.params) if proposal else {},
        distributions=terrain.space.distributions if proposal else {},
        user_attrs={ATTRIBUTE: trial.to_json()},
        system_attrs=dict(proposal.attributes) if proposal else {},
        constraints=goal.excess(trial.metrics) if complete and proposal else None,
    )


def read_trials(stored: optuna.Study) -> list[tuple[Trial, FrozenTrial]]:
    """The trials of a stored study with their records, in order."""
    records = stored.get_trials(deepcopy=False)
    return [(Trial.from_json(i, r.user_attrs[ATTRIBUTE]), r) for i, r in enumerate(records)]


def find_study(name: str, storage: str) -> optuna.Study | None:
    """The stored study of that name, if there is one that has a trial."""
    opened = open_storage(storage)
    if name not in optuna.get_all_study_names(opened):
        return None
    stored = optuna.load_study(study_name=name, storage=opened)
    if not stored.get_trials(deepcopy=False):
        return None
    if ATTRIBUTE not in stored.user_attrs:
        raise StudyError(f"study {name!r} in {storage} is not one of Quire's: give another name=")
    return stored


def create_study(
    name: str, storage: str, objectives: Objectives, about: Mapping[str, Any]
) -> optuna.Study:
    """A new stored study, or the one of that name that was killed before its first trial."""
    stored = optuna.create_study(
        directions=[DIRECTIONS[direction] for direction in objectives.directions.values()],
        study_name=name,
        storage=open_storage(storage),
        load_if_exists=True,
    )
    stored.set_user_attr(ATTRIBUTE, dict(about))
    return stored


def check_same(stored: optuna.Study, about: Mapping[str, Any]) -> None:
    """Raise StudyError where the stored study had another model, space or goal; name the parts."""
    before: dict[str, Any] = stored.user_attrs[ATTRIBUTE]
    now = json.loads(json.dumps(about))  # tuples become lists, as in the storage
    differences = [_difference(key, before.get(key), now[key]) for key in now]
    parts = "; ".join(filter(None, differences))
    if parts:
        raise StudyError(
            f"study {stored.study_name!r} was made with other settings ({parts}): "
            "give this search another name=, or the settings of the study"
        )


def _difference(key: str, before: Any, now: Any) -> str:
    if before == now:
        return ""
    short = len(str(before)) + len(str(now)) < 200
    return f"{key}: {before} there, {now} here" if short else f"{key} differs"
