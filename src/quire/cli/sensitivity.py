"""`quire sensitivity`: what each format at each site costs alone, and plans that follow from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from quire.cli.app import TaskName, app, check_folder, out, pairs, plain_table, show
from quire.cli.search import SearchFormats, SearchSites, cost_limits, to_number
from quire.cli.tables import numbered
from quire.errors import QuireError

if TYPE_CHECKING:
    from quire.explore import Sensitivities
    from quire.precision import Plan

MOST_PLANS = 1000
"""Of a front: beyond, a step was most likely mistyped."""


@app.command()
def sensitivity(
    task: TaskName,
    format: SearchFormats,
    site: SearchSites = None,
    kind: Annotated[
        str,
        typer.Option(
            help="kl: divergence of the outputs as logits; error: their relative error; fisher: "
            "first-order scores, from one backward pass."
        ),
    ] = "kl",
    every: Annotated[
        bool, typer.Option("--all", help="Measure also what another format of a site dominates.")
    ] = False,
    storage: Annotated[
        str, typer.Option(help="Where values are kept, as `quire search` takes it.")
    ] = "study.journal",
    workers: Annotated[int | None, typer.Option(help="Processes that measure.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Where the table goes, too.")] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit", "-l", help="COST=BOUND, such as bits=4: find the best plan. Repeat it."
        ),
    ] = None,
    front: Annotated[
        str | None,
        typer.Option(
            help="COST=FIRST:LAST:STEP, such as bits=3:6:0.5: find a plan for each bound, within "
            "the limits."
        ),
    ] = None,
    plan: Annotated[
        Path, typer.Option(help="Where the plan goes; of a front, with a number in the name.")
    ] = Path("plan.json"),
) -> None:
    """Measure what each format costs at each site alone; find plans by that, with no further run.

    `quire sensitivity digits:task -f mxint4 -f mxint6 -f mxfp4 --limit bits=4.5`

    Values are kept beside the studies: a later call, or search, measures only what is new.
    """
    from quire.explore import Task
    from quire.explore import sensitivity as measure

    limits, bounds = cost_limits(limit or []), _front(front)
    for path in (plan, *([csv] if csv else [])):
        check_folder(path)
    found = measure(
        Task.resolve(task),
        format,
        sites=site,
        storage=storage,
        kind=kind,
        workers=workers,
        prune=() if every else ("bits",),
    )
    table = found.__rich__()
    table.title = None  # it would be broken to the width of the table
    out.print(found.loss, style="italic", markup=False, highlight=False)
    show(table)
    told = f"{found.evaluations} runs over the calibration data; {storage} keeps the values"
    out.print(told, markup=False, highlight=False)
    if csv is not None:
        found.save_csv(csv)
    if bounds:
        ((cost, values),) = bounds.items()
        _save_front(found, found.front(cost, values, **limits), plan)
    elif limits:
        _save_front(found, [found.plan(**limits)], plan)


def _front(text: str | None) -> dict[str, list[float]]:
    """{cost: bounds} of a text such as bits=3:6:0.5."""
    return pairs("--front", [text] if text else [], _bounds, "COST", "bits=3:6:0.5")


def _bounds(text: str) -> list[float]:
    """The numbers from the first to the last, which both belong to them."""
    parts = [to_number(part) for part in text.split(":")]
    if len(parts) != 3 or parts[2] <= 0 or parts[1] < parts[0]:
        raise ValueError(f"{text!r} is no FIRST:LAST:STEP")
    first, last, step = parts
    count = int((last - first) / step + 1e-9) + 1  # in tenths, 3 to 6 has 31 bounds
    if count > MOST_PLANS:
        raise ValueError(f"{text!r} names {count:,} bounds, more than {MOST_PLANS:,}")
    return [first + i * step for i in range(count)]


def _save_front(found: "Sensitivities", plans: "Sequence[Plan]", path: Path) -> None:
    """Write plans and print their costs and what they are predicted to lose."""
    if not plans:
        raise QuireError("no bound of the front is met by any plan: raise the last one")
    files = [path] if len(plans) == 1 else [_numbered(path, i) for i in range(1, len(plans) + 1)]
    for plan, file in zip(plans, files, strict=True):
        plan.save(file)
    show(_plans_table(found, plans, files))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}{path.suffix}")


def _plans_table(found: "Sensitivities", plans: "Sequence[Plan]", files: Sequence[Path]) -> Table:
    program = found.program()
    table = plain_table("plan")
    table.add_column(f"predicted {found.kind}", justify="right")
    costs = list(found.tables.least)
    for cost in costs:
        table.add_column(cost, justify="right")
    for plan, file in zip(plans, files, strict=True):
        formats = {site: entry.name or entry.text for site, entry in plan.items()}
        genome = found.space.genome_of(formats)
        values = found.tables.of(genome)
        predicted = f"{program.total(genome):.5g}"
        table.add_row(str(file), predicted, *(numbered(values[cost]) for cost in costs))
    return table
