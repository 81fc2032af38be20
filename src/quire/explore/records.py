"""Trials and studies as Optuna's records."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from quire.errors import StudyError
from quire.explore.limits import Terrain
from quire.explore.objectives import DIRECTIONS, Objectives
from quire.explore.space import Params
from quire.explore.storage import open_storage, shown
from quire.explore.trial import TRAINED, Trial

ATTRIBUTE = "quire"
"""The key under which a study, and each trial, keeps what Optuna has no place for."""


PREPARATION = "quire evaluations before the first trial"
"""The key under which a study keeps what its sensitivities took."""

PLANNED = "quire trials"
"""The key under which a study keeps how many trials the last search wanted it to have."""

MODEL = "quire model"
"""The key under which a study keeps the drawing of its model (`quire.explore.picture`)."""

SENSITIVITIES = "quire sensitivities"
"""The key under which a study keeps the sensitivities that it went by, as plain data."""

PROGRAM = "quire program"
"""The key under which a study keeps what its limits cost (`quire.explore.relaxed`)."""

KEPT = ("metrics", "label", "seconds", "error")
"""What is stored of a trial besides its plan, its state, and its place in the study."""


Key: TypeAlias = tuple[str, tuple[int, ...]]
"""The label of a trial whose plan was trained, else "", and its plan as numbers."""


class Plans:
    """The plans of a study as numbers: for each site in order, which of the study's formats.

    So a stored trial has a few hundred bytes. Optuna's parameters would take sixty times as many,
    and follow from the plan, those of families that it does not use excepted.
    """

    def __init__(self, about: Mapping[str, Any]) -> None:
        self._sites = [str(site["name"]) for site in about["sites"]]
        self._formats = sorted({text for texts in about["formats"].values() for text in texts})
        self._index = {text: i for i, text in enumerate(self._formats)}

    def encode(self, formats: Mapping[str, str]) -> list[int]:
        """The numbers of {site: format string}; none for the baseline, which has no formats."""
        return [self._index[formats[site]] for site in self._sites if site in formats]

    def decode(self, plan: Sequence[int]) -> dict[str, str]:
        """The inverse of `encode`."""
        return {site: self._formats[i] for site, i in zip(self._sites, plan, strict=bool(plan))}

    def key(self, formats: Mapping[str, str], label: str) -> Key:
        """What tells a trial from all others of its study."""
        return label if label.startswith(TRAINED) else "", tuple(self.encode(formats))


def to_record(
    trial: Trial, terrain: Terrain, params: Params, attributes: Mapping[str, Any]
) -> FrozenTrial:
    """The record of a trial that samplers learn from; of the baseline without parameters."""
    goal = terrain.objectives
    return create_trial(
        **_outcome(trial, goal),
        params=params,
        distributions=terrain.space.distributions if params else {},
        system_attrs=dict(attributes),
        constraints=goal.excess(trial.metrics) if params and trial.state == "complete" else None,
    )


def to_stored(
    trial: Trial, goal: Objectives, plans: Plans, attributes: Mapping[str, Any]
) -> FrozenTrial:
    """The record of a trial that is stored: its plan in place of the parameters."""
    kept = {key: getattr(trial, key) for key in KEPT}
    return create_trial(
        **_outcome(trial, goal),
        user_attrs={ATTRIBUTE: {**kept, "plan": plans.encode(trial.formats)}},
        system_attrs=dict(attributes),
    )


def _outcome(trial: Trial, goal: Objectives) -> dict[str, Any]:
    complete = trial.state == "complete"
    return {
        "state": TrialState.COMPLETE if complete else TrialState.FAIL,
        "values": goal.values(trial.metrics) if complete else None,
    }


class Reader:
    """Reads the trials of a stored study, each once, in order.

    A record that repeats an earlier one is passed over: a database that is killed may keep a record
    and not say so, and it is then written again.

    keys: of the trials so far.
    """

    def __init__(self, stored: optuna.Study) -> None:
        self.plans = Plans(stored.user_attrs[ATTRIBUTE])
        self.keys: set[Key] = set()
        self._stored, self._seen = stored, 0

    def read(self) -> list[tuple[Trial, FrozenTrial]]:
        """The trials that were stored since the last call, with their records."""
        found: list[tuple[Trial, FrozenTrial]] = []
        records = self._stored.get_trials(deepcopy=False)
        for record in records[self._seen :]:
            trial = _trial(len(self.keys), record, self.plans)
            key = self.plans.key(trial.formats, trial.label)
            if key not in self.keys:
                self.keys.add(key)
                found.append((trial, record))
        self._seen = len(records)
        return found


def read_trials(stored: optuna.Study) -> list[tuple[Trial, FrozenTrial]]:
    """The trials of a stored study with their stored records, in order."""
    return Reader(stored).read()


def _trial(number: int, record: FrozenTrial, plans: Plans) -> Trial:
    kept = dict(record.user_attrs[ATTRIBUTE])
    state = "complete" if record.state == TrialState.COMPLETE else "failed"
    return Trial(number, plans.decode(kept.pop("plan")), state=state, **kept)


def find_study(name: str, storage: str) -> optuna.Study | None:
    """The stored study of that name, if there is one that has a trial."""
    opened = open_storage(storage)
    if name not in optuna.get_all_study_names(opened):
        return None
    stored = optuna.load_study(study_name=name, storage=opened)
    if not stored.get_trials(deepcopy=False):
        return None
    if ATTRIBUTE not in stored.user_attrs:
        raise StudyError(
            f"study {name!r} in {shown(storage)} is not one of Quire's: give another name="
        )
    return stored


def create_study(
    name: str, storage: str, objectives: Objectives, about: Mapping[str, Any]
) -> optuna.Study:
    """A new stored study, or the one of that name that was killed before its first trial."""
    directions: list[Literal["minimize", "maximize"]] = [
        DIRECTIONS[direction] for direction in objectives.directions.values()
    ]
    stored = optuna.create_study(
        directions=directions,
        study_name=name,
        storage=open_storage(storage),
        load_if_exists=True,
    )
    if [direction.name.lower() for direction in stored.directions] != directions:
        raise StudyError(
            f"{shown(storage)} has an empty study {name!r} with other objectives: give another "
            "name="
        )
    stored.set_user_attr(ATTRIBUTE, dict(about))
    return stored


def keep(stored: optuna.Study, attributes: Mapping[str, Any]) -> None:
    """Set attributes of a stored study where they are new."""
    for key, value in attributes.items():
        if value and stored.user_attrs.get(key) != value:
            stored.set_user_attr(key, value)


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
    if key == "model":
        return "the model has other weights"  # of hashes nobody reads anything
    short = len(str(before)) + len(str(now)) < 200
    return f"{key}: {before} there, {now} here" if short else f"{key} differs"
