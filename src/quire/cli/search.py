"""Commands of the search, and of the pages that show what was found."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from quire.cli.app import TaskName, app, check_folder, out, pairs, show
from quire.cli.hardware import draw_design
from quire.errors import StudyError

if TYPE_CHECKING:
    from quire.explore import Study

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
        "objective that is maximised, at most of others. For any other metric 'accuracy>=0.9' or "
        "'loss<=0.3'. Repeat it.",
    ),
]
SearchSites = Annotated[
    list[str] | None,
    typer.Option("--site", help="Sites to search, such as '*.weight'; default: all operands."),
]


@app.command()
def search(
    task: TaskName,
    format: SearchFormats,
    objective: Goals,
    limit: Limits = None,
    site: SearchSites = None,
    trials: Annotated[int, typer.Option(help="Trials that the study has in the end.")] = 200,
    name: Annotated[str, typer.Option(help="The study's name; a known one goes on.")] = "search",
    storage: Annotated[
        str,
        typer.Option(
            help="Journal file, sqlite:///FILE, or postgresql+psycopg://USER@HOST/DATABASE."
        ),
    ] = "study.journal",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that evaluate plans, one thread each; default: this one, or as many "
            "as --ray has room for."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster that evaluates plans: auto (this machine's), local, or its address."
        ),
    ] = None,
    join: Annotated[
        bool, typer.Option("--join", help="Search beside others that join the study.")
    ] = False,
    sampler: Annotated[
        str,
        typer.Option(
            help="guided, program, tpe, nsga2, random, grid, or a class name of optuna.samplers."
        ),
    ] = "guided",
    start: Annotated[
        str,
        typer.Option(
            help="front: first the plans of the integer program; uniform: the uniform plans alone."
        ),
    ] = "uniform",
    seed: Annotated[int, typer.Option(help="Seed of the sampler.")] = 0,
    qat_epochs: Annotated[
        int, typer.Option(help="Epochs that train() gives each plan; weights are not kept.")
    ] = 0,
    qat_best: Annotated[
        int | None,
        typer.Option(help="Train only so many plans, the first of the front, after the search."),
    ] = None,
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

    objectives = pairs("--objective", objective, str, "METRIC", "error=min")
    limits = _limits(limit or [])
    for path in (plan, results, *([csv] if csv else [])):
        check_folder(path)
    resolved = Task.resolve(task)
    study = run_search(
        resolved,
        format,
        objectives,
        limits=limits,
        sites=site,
        name=name,
        trials=trials,
        workers=workers,
        ray=ray,
        storage=storage,
        join=join,
        sampler=sampler,
        start=start,
        seed=seed,
        qat_epochs=qat_epochs,
        qat_best=qat_best,
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
    results: Annotated[
        Path, typer.Argument(help="The results that a search wrote, or the folder of a design.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the page goes.")] = Path(
        "report.html"
    ),
) -> None:
    """Draw the results of a search, or a design, as one self-contained page.

    Of a folder of `quire emit`: its dataflow, a timeline, and what `quire simulate` and
    `quire synth` measured against what was predicted.
    """
    from quire.report import StudyResults, page

    check_folder(output)
    if results.is_dir():
        draw_design(results, output)
    elif results.is_file():
        page(StudyResults.load(results), output)
    else:
        raise StudyError(
            f"{results} is no file: give the results that `quire search` wrote, or the folder of "
            "`quire emit`"
        )
    out.print(f"page: {output}", highlight=False)


def _show_search(study: "Study", plan: Path, results: Path) -> None:
    """Print the front and where the files are; exit code 130 after Ctrl-C."""
    if study.feasible:
        show(_front_table(study.pareto()))
        out.print(f"best plan: {plan}; results: {results}", markup=False, highlight=False)
        if study.failed:
            told = f"of {len(study.trials)} trials {study.failures()}"
            out.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if study.interrupted:
        raise typer.Exit(130)
    if not study.feasible:
        raise StudyError(study.shortfall())


def _front_table(front: Iterable[Any]) -> Table:
    trials = list(front)
    table = Table("trial", title="Pareto front", box=None, pad_edge=False, title_justify="left")
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    for metric in metrics:
        table.add_column(metric, justify="right")
    table.add_column("")
    for trial in trials:
        numbers = (numbered(trial.metrics.get(metric)) for metric in metrics)
        table.add_row(str(trial.number), *numbers, trial.label)
    return table


def numbered(value: float | None) -> str:
    """A metric in a table: whole numbers in thousands, others in five digits."""
    if value is None:  # evaluate gave the metric of other plans, not of this one
        return "-"
    return f"{value:,.0f}" if value.is_integer() else f"{value:.5g}"


def _limits(texts: list[str]) -> dict[str, float | str]:
    """{metric: bound} of texts such as bits=4 or accuracy>=0.9."""
    sided: dict[str, float | str] = {}
    for text in texts:
        for side in (">=", "<="):
            metric, found, bound = text.partition(side)
            if metric and found:
                sided[metric] = f"{side} {bound}"
    plain = [text for text in texts if ">=" not in text and "<=" not in text]
    return sided | pairs("--limit", plain, to_number, "METRIC", "bits=4")


def cost_limits(texts: list[str]) -> dict[str, float]:
    """{cost: bound} of texts such as bits=4."""
    return pairs("--limit", texts, to_number, "COST", "bits=4")


def to_number(text: str) -> float:
    """The number that a text is; ValueError where it is none."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
