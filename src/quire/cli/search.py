"""Commands of the search, and of the pages that show what was found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quire.cli.app import app, check_folder, out, pairs, show
from quire.cli.hardware import draw_design
from quire.cli.tables import trials_table
from quire.cli.watch import follow
from quire.errors import StudyError

if TYPE_CHECKING:
    from quire.explore import Study, Task
    from quire.explore.workbench import Costs

FORMATS = typer.Option(
    "--format",
    "-f",
    help="A format to choose from, or a pattern of formats such as "
    "'fixed(4..16,free)' or 'bfp(3..8,scale_bits=8,size=16|32)'. Repeat it.",
)
SearchFormats = Annotated[list[str], FORMATS]
SearchFormatsOrNone = Annotated[list[str] | None, FORMATS]
Goals = Annotated[
    list[str] | None,
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
SearchTask = Annotated[
    str | None,
    typer.Argument(metavar="MODULE:FUNCTION", help="A function that returns a quire.Task."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Processes that evaluate plans, one thread each; default: this one, or as many "
        "as --ray has room for."
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster that evaluates plans: auto (this machine's), local, or its address."
    ),
]
Storage = Annotated[
    str,
    typer.Option(help="Journal file, sqlite:///FILE, or postgresql+psycopg://USER@HOST/DATABASE."),
]
Sampler = Annotated[
    str,
    typer.Option(
        help="program, guided, tpe, nsga2, random, grid, or a class name of optuna.samplers."
    ),
]
Start = Annotated[
    str,
    typer.Option(
        help="front: after the uniform plans those of the integer program, as the sampler program "
        "always does; uniform: then what the sampler proposes."
    ),
]
Join = Annotated[bool, typer.Option("--join", help="Search beside others that join the study.")]
QatEpochs = Annotated[
    int, typer.Option(help="Epochs that train() gives each plan; weights are not kept.")
]
QatBest = Annotated[
    int | None,
    typer.Option(help="Train only so many plans, the first of the front, after the search."),
]
ResultsFile = Annotated[Path, typer.Option(help="Where the results go, for `quire report`.")]
Watching = Annotated[
    bool, typer.Option("--watch", help="Search nothing: follow the study that another runs.")
]
Rate = Annotated[
    float | None,
    typer.Option(
        help="Samples a second of a circuit: LUT, DSP, BRAM, area and cycles of each plan at that "
        "rate are costs too, for --objective and --limit."
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="A GPU such as 'NVIDIA H200': device_memory and microseconds of each plan are costs."
    ),
]
SearchSites = Annotated[
    list[str] | None,
    typer.Option("--site", help="Sites to search, such as '*.weight'; default: all operands."),
]


@app.command()
def search(
    task: SearchTask = None,
    format: SearchFormatsOrNone = None,
    objective: Goals = None,
    limit: Limits = None,
    site: SearchSites = None,
    trials: Annotated[int, typer.Option(help="Trials that the study has in the end.")] = 200,
    name: Annotated[str, typer.Option(help="The study's name; a known one goes on.")] = "search",
    storage: Storage = "study.journal",
    workers: Workers = None,
    ray: Ray = None,
    join: Join = False,
    sampler: Sampler = "program",
    start: Start = "uniform",
    rate: Rate = None,
    clock: Annotated[float, typer.Option(help="Hz of the circuit.")] = 200e6,
    device: Device = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampler.")] = 0,
    qat_epochs: QatEpochs = 0,
    qat_best: QatBest = None,
    plan: Annotated[Path, typer.Option(help="Where the best plan goes.")] = Path("plan.json"),
    results: ResultsFile = Path("study.json"),
    csv: Annotated[Path | None, typer.Option(help="Where a table of the trials goes.")] = None,
    watch: Watching = False,
) -> None:
    """Search for the best format at every site of a task's model.

    `quire search digits:task -f mxint4 -f mxint6 -f mxfp4 -o loss=min -o bits=min -l bits=5`

    The best plan is that of the first objective within the limits. Ctrl-C stops the search; the
    same command goes on with it. `quire search --watch --name NAME` shows in another terminal how
    far it is.
    """
    if watch:
        follow(name, storage, trials)
        return
    from quire.explore import Task, sample_tensors
    from quire.explore import search as run_search

    if not task or not format or not objective:
        raise StudyError(
            "a search needs a task, MODULE:FUNCTION, and at least one --format and one "
            "--objective; to follow one, write --watch"
        )
    objectives = pairs("--objective", objective, str, "METRIC", "error=min")
    limits = _limits(limit or [])
    for path in (plan, results, *([csv] if csv else [])):
        check_folder(path)
    resolved = Task.resolve(task)
    costs = _costs(resolved, rate, clock, device)
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
        costs=costs,
    )
    tensors = sample_tensors(resolved, study.best()) if study.feasible else []
    study.save(results, tensors=tensors, layers=_layers(study, resolved, costs))
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


def _costs(task: "Task", rate: float | None, clock: float, device: str | None) -> "Costs | None":
    """What a search is told of circuits or of a GPU."""
    if rate is not None and device is not None:
        raise StudyError("give --rate, for a circuit, or --device, for a GPU, not both")
    if device is not None:
        from quire.software import device_costs

        return device_costs(device)
    if rate is None:
        return None
    from quire.hardware import DesignCosts

    data = task.example_inputs if task.calibration is None else task.calibration
    return DesignCosts(data, rate=rate, clock=clock)


def _layers(study: "Study", task: "Task", costs: object) -> dict[str, dict[str, float]]:
    """What each layer of the best plan's circuit takes, where the search knew of a circuit."""
    if costs is None or not study.feasible:
        return {}
    from quire.graph import capture
    from quire.hardware import DesignCosts

    if not isinstance(costs, DesignCosts):  # of a GPU
        return {}
    graph = capture(task.model, task.example_inputs)
    used = costs.cost(graph, study.best()).layers
    return {
        layer: {name: float(getattr(found, name)) for name in ("LUT", "FF", "DSP", "BRAM")}
        for layer, found in used.items()
    }


def _show_search(study: "Study", plan: Path, results: Path) -> None:
    """Print the front and where the files are; exit code 130 after Ctrl-C."""
    if study.feasible:
        show(trials_table(study.pareto()))
        out.print(f"best plan: {plan}; results: {results}", markup=False, highlight=False)
        if study.failed:
            told = f"of {len(study.trials)} trials {study.failures()}"
            out.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)
    if study.interrupted:
        raise typer.Exit(130)
    if not study.feasible:
        raise StudyError(study.shortfall())


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
