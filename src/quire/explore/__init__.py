"""The search for mixed-precision plans: spaces of formats, Optuna studies, their results."""

from importlib.util import find_spec

from quire.errors import StudyError

if find_spec("optuna") is None or find_spec("scipy") is None:
    raise StudyError("a search needs Optuna and SciPy: pip install 'quire[search]'")

from quire.explore.run import search
from quire.explore.sensitivity import Sensitivities, sensitivity
from quire.explore.study import Study
from quire.explore.task import Task
from quire.explore.tensors import sample_tensors
from quire.explore.trial import Trial

__all__ = [
    "Sensitivities",
    "Study",
    "Task",
    "Trial",
    "sample_tensors",
    "search",
    "sensitivity",
]
