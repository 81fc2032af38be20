"""The limits of a study: their bounds, and what a wider one would buy by the integer program."""

from typing import Any

from quire.report.results import StudyResults


def limit_rows(results: StudyResults) -> list[dict[str, Any]]:
    """[{"metric", "bound", "lower", "wider", "gain"}], a row a limit.

    wider: the bound relaxed by a few percent. gain: the share of the predicted loss that it would
    save; both None where the results do not say.
    """
    program = results.program
    rows: list[dict[str, Any]] = []
    for metric, bound in results.limits.items():
        wider, gain = None, None
        if program is not None and metric in program.relaxed:
            wider, loss = program.relaxed[metric]
            gain = 1 - loss / program.loss if program.loss > 0 else 0.0
        lower = results.is_lower(metric)
        rows.append(
            {"metric": metric, "bound": bound, "lower": lower, "wider": wider, "gain": gain}
        )
    return rows
