"""Tables of trials, and the numbers in them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from quire.explore import Trial


def trials_table(trials: "Iterable[Trial]", shown: Iterable[str] = ()) -> Table:
    """The trials of a front with the metrics `shown`; where none is named, with all."""
    rows = list(trials)
    table = Table("trial", title="Pareto front", box=None, pad_edge=False, title_justify="left")
    metrics = list(shown) or list(dict.fromkeys(name for trial in rows for name in trial.metrics))
    for metric in metrics:
        table.add_column(metric, justify="right")
    table.add_column("")
    for trial in rows:
        numbers = (numbered(trial.metrics.get(metric)) for metric in metrics)
        table.add_row(str(trial.number), *numbers, trial.label)
    return table


def numbered(value: float | None) -> str:
    """A metric in a table: whole numbers in thousands, others in five digits."""
    if value is None:  # evaluate gave the metric of other plans, not of this one
        return "-"
    return f"{value:,.0f}" if value.is_integer() else f"{value:.5g}"
