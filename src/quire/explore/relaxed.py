"""What limits cost: the predicted loss within them, and with each of them a little wider."""

from collections.abc import Mapping
from typing import Any

from quire.errors import StudyError
from quire.explore.program import Program

SHARE = 0.05
"""By which share of itself a limit is relaxed."""


def relaxed(program: Program, limits: Mapping[str, float]) -> dict[str, Any]:
    """The least predicted loss within limits on costs, and with each one relaxed by 5%.

    Returns {"loss": ..., "relaxed": {metric: {"bound", "loss"}}}; empty where no limit is given or
    the program finds no plan within them.
    """
    if not limits:
        return {}
    try:
        wider = {metric: bound + SHARE * abs(bound) for metric, bound in limits.items()}
        return {
            "loss": program.total(program.solve(limits)),
            "relaxed": {
                metric: {
                    "bound": bound,
                    "loss": program.total(program.solve({**limits, metric: bound})),
                }
                for metric, bound in wider.items()
            },
        }
    except StudyError:  # limits that no plan meets: the search says so
        return {}
