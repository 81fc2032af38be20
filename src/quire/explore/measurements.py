"""Where sensitivities are kept: beside the studies of a storage, by a digest of their content.

So a later search with another budget, other limits or more formats measures only what is new. Each
record is written once, when it is measured; a killed measurement loses none that is finished.
"""

import math
from collections.abc import Mapping

import optuna
from optuna.trial import create_trial

from quire.explore.records import ATTRIBUTE
from quire.explore.storage import open_storage, optuna_quiet, patiently

Values = dict[str, dict[str, float]]  # {tie group: {format string: sensitivity}}


class Measurements:
    """The stored sensitivities of one kind, for one model and its calibration data.

    values: those so far. In the storage they are the trials of an Optuna study without parameters,
    whose value is the number of sensitivities in the record.
    """

    def __init__(self, storage: str, kind: str, digest: str) -> None:
        name = f"sensitivities {kind} {digest[:32]}"
        self._storage = storage
        with optuna_quiet():
            self._study = optuna.create_study(
                study_name=name, storage=open_storage(storage), load_if_exists=True
            )
        self.values: Values = {}
        for record in self._study.get_trials(deepcopy=False):
            self._take(record.user_attrs.get(ATTRIBUTE, {}))

    def add(self, values: Mapping[str, Mapping[str, float]]) -> None:
        """Keep sensitivities; JSON has no infinity, for which it says null."""
        kept = {
            tie: {format: value if math.isfinite(value) else None for format, value in row.items()}
            for tie, row in values.items()
        }
        count = float(sum(map(len, kept.values())))
        record = create_trial(value=count, user_attrs={ATTRIBUTE: kept})
        patiently(self._storage, lambda: self._study.add_trial(record))  # twice does no harm
        self._take(kept)

    def _take(self, kept: Mapping[str, Mapping[str, float | None]]) -> None:
        for tie, row in kept.items():
            read = {format: math.inf if v is None else v for format, v in row.items()}
            self.values.setdefault(tie, {}).update(read)
