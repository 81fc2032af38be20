"""The command line: one thin subcommand for each stage."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from quire.errors import QuireError, StudyError

if TYPE_CHECKING:
    from quire.explore import Study

T = TypeVar("T")

TaskName = Annotated[
    str, typer.Argument(metavar="MODULE:FUNCTION", help="A function that returns a quire.Task.")
]
SearchFormats = Annotated[
    list[str],
    typer.Option(
        "--format",
        "-f",
        help="A format to choose from, or a pattern of formats such as "
        "'fixed(4..16,free)' or 'bfp(3..8,scale_bits=8,size=16|32)'. Repeat it.",
    ),
]
Goals = Annotated[
    list[str],
    typer.Option(
        "--objective", "-o", help="METRIC=min or METRIC=max. Repeat it, the most important first."
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        "-l",
        help="METRIC=BOUND for a cost or an objective, such as bits=4: at least that much of an "
        "objective that is maximised, at most of others. Repeat it.",
    ),
]
SearchSites = Annotated[
    list[str] | None,
    typer.Option("--site", help="Sites to search, such as '*.weight'; default: all operands."),
]

app = typer.Typer(
    help="Find the cheapest number format for every tensor of a PyTorch network.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
plan_app = typer.Typer(no_args_is_help=True, help="List the sites of a model; compare plans.")
app.add_typer(plan_app, name="plan")
out = Console()


def main() -> None:
    """Run the command line; an error of Quire is one message and exit code 2."""
    try:
        app()
    except QuireError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        raise SystemExit(2) from None


@app.command()
def formats(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="FORMAT", help="Formats to describe.")
    ] = None,
) -> None:
    """Print the tables of named formats and of families, or describe the given formats.

    A format may be a name or written out: quire formats mxint4 "fixed(8,4)". The bits of the table
    are those stored for a value on a long axis, its share of the scales included.
    """
    from quire.formats import parse

    for name in names or []:
        out.print(parse(name).describe(), markup=False, highlight=False)
    if not names:
        _print(_presets_table())
        out.print()
        _print(_families_table())


def _presets_table() -> Table:
    from quire.formats import presets

    table = _table("name", "bits", "written out")
    for name, fmt in presets.items():
        table.add_row(name, f"{fmt.bits_per_value(4096):.4g}", fmt.long_form())
    return table


def _families_table() -> Table:
    """Each family by its example and the first line of its documentation."""
    from quire.formats import families
    from quire.formats.registry import EXAMPLES

    table = _table("family, by an example", "meaning")
    for name, family in families.items():
        meaning = (family.__doc__ or "").splitlines()[0].replace("`", "")
        table.add_row(EXAMPLES[name], meaning)
    return table


@plan_app.command("sites")
def plan_sites(
    task: TaskName,
    operands: Annotated[
        bool, typer.Option("--operands", help="Only operands of products and convolutions.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print the places of a task's model where a format can be chosen."""
    from quire.explore import Task
    from quire.graph import capture, sites

    found = Task.resolve(task)
    known = sites(capture(found.model, found.example_inputs)).values()
    chosen = [site for site in known if site.is_operand or not operands]
    columns = ("name", "op", "role", "shape", "elements", "macs", "tie")
    rows = [{column: getattr(site, column) for column in columns} for site in chosen]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = _table("site", "op", "role", "shape")
    for head in ("elements", "MACs fed"):
        table.add_column(head, justify="right")
    table.add_column("tied to")
    for row in rows:
        tie = row["tie"] if row["tie"] != row["name"] else ""
        shape = "x".join(map(str, row["shape"]))
        numbers = (f"{row[key]:,}" if row[key] else "" for key in ("elements", "macs"))
        table.add_row(row["name"], row["op"], row["role"], shape, *numbers, tie)
    _print(table)


@plan_app.command("diff")
def plan_diff(
    first: Annotated[Path, typer.Argument(help="A plan file.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Print the sites at which two plans differ; exit code 1 where there are any."""
    from quire.precision import Plan

    differences = Plan.load(first).diff(Plan.load(second))
    if not differences:
        out.print("the plans are equal")
        return
    table = _table("site", str(first), str(second))
    for site, (before, after) in differences.items():
        table.add_row(site, str(before or "-"), str(after or "-"))
    _print(table)
    raise typer.Exit(1)


@app.command()
def search(
    task: TaskName,
    format: SearchFormats,
    objective: Goals,
    limit: Limits = None,
    site: SearchSites = None,
    trials: Annotated[int, typer.Option(help="Trials that the study has in the end.")] = 200,
    name: Annotated[str, typer.Option(help="The study's name; a known one goes on.")] = "search",
    storage: Annotated[str, typer.Option(help="Journal file, or Optuna URL.")] = "study.journal",
    sampler: Annotated[
        str,
        typer.Option(help="guided, tpe, nsga2, random, grid, or a class name of optuna.samplers."),
    ] = "guided",
    seed: Annotated[int, typer.Option(help="Seed of the sampler.")] = 0,
    qat_epochs: Annotated[int, typer.Option(help="Epochs that train() gives each plan.")] = 0,
    plan: Annotated[Path, typer.Option(help="Where the best plan goes.")] = Path("plan.json"),
    results: Annotated[Path, typer.Option(help="Where the results go, for `quire report`.")] = Path(
        "study.json"
    ),
    csv: Annotated[Path | None, typer.Option(help="Where a table of the trials goes.")] = None,
) -> None:
    """Search for the best format at every site of a task's model.

    `quire search digits:task -f mxint4 -f mxint6 -f mxfp4 -o loss=min -o bits=min -l bits=5`

    The best plan is that of the first objective within the limits. Ctrl-C stops the search; the
    same command goes on with it.
    """
    from quire.explore import Task, sample_tensors
    from quire.explore import search as run_search

    objectives = _pairs("--objective", objective, str, "error=min")
    limits = _pairs("--limit", limit or [], float, "bits=4")
    for path in (plan, results, *([csv] if csv else [])):
        _check_folder(path)
    resolved = Task.resolve(task)
    study = run_search(
        resolved,
        format,
        objectives,
        limits=limits,
        sites=site,
        name=name,
        trials=trials,
        storage=storage,
        sampler=sampler,
        seed=seed,
        qat_epochs=qat_epochs,
    )
    tensors = sample_tensors(resolved, study.best()) if study.feasible else []
    study.save(results, tensors=tensors)
    if csv is not None:
        study.save_csv(csv)
    if study.feasible:
        study.best().save(plan)
    _show_search(study, plan, results)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="The results that a search wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the page goes.")] = Path(
        "report.html"
    ),
) -> None:
    """Draw the results of a search as one self-contained page."""
    from quire.report import StudyResults, page

    if not results.is_file():
        raise StudyError(f"{results} is no file: give the results that `quire search` wrote")
    _check_folder(output)
    page(StudyResults.load(results), output)
    out.print(f"page: {output}", highlight=False)


def _show_search(study: "Study", plan: Path, results: Path) -> None:
    """Print the front and where the files are; exit code 130 after Ctrl-C."""
    if study.feasible:
        _print(_front_table(study.pareto()))
        out.print(f"best plan: {plan}; results: {results}", highlight=False)
    if study.interrupted:
        raise typer.Exit(130)
    if not study.feasible:
        raise StudyError(f"no trial of {len(study.trials)} is complete and within the limits")


def _front_table(front: Iterable[Any]) -> Table:
    trials = list(front)
    table = Table("trial", title="Pareto front", box=None, pad_edge=False, title_justify="left")
    for metric in trials[0].metrics:
        table.add_column(metric, justify="right")
    table.add_column("")
    for trial in trials:
        numbers = map(_number, trial.metrics.values())
        table.add_row(str(trial.number), *numbers, trial.label)
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value.is_integer() else f"{value:.5g}"


def _check_folder(path: Path) -> None:
    """Raise StudyError where no file can be written, before any work is lost."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise StudyError(f"{path} cannot be written: give a file in a folder that exists")


def _pairs(
    option: str, texts: Iterable[str], convert: Callable[[str], T], example: str
) -> dict[str, T]:
    pairs: dict[str, T] = {}
    for text in texts:
        metric, _, value = text.partition("=")
        if not metric or not value:
            raise StudyError(f"{option} {text!r}: write METRIC=..., such as {example}")
        try:
            pairs[metric] = convert(value)
        except ValueError:
            raise StudyError(
                f"{option} {text!r}: {value!r} is no number; write {example}"
            ) from None
    return pairs


def _table(*columns: str) -> Table:
    """A table without lines, whose cells go on below where the terminal is narrow."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table) -> None:
    """Print a table; in full where the output is not a terminal."""
    width = None if sys.stdout.isatty() else 240
    Console(width=width).print(table, markup=False, highlight=False)
