"""Commands of the software stream: what compiling does, and what it costs and gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from quire.cli.app import TaskName, app, check_folder, out, plain_table, show

if TYPE_CHECKING:
    from quire.software.measure import Figures

PANEL = "Software"

bench_app = typer.Typer(
    no_args_is_help=True, help="Measure this machine: compiled models, GPU kernels."
)
app.add_typer(bench_app, name="bench", rich_help_panel=PANEL)

PlanFile = Annotated[
    str | None,
    typer.Option("--plan", "-p", help="A plan file, or one format for all operands of products."),
]


@app.command(rich_help_panel=PANEL)
def explain(
    task: TaskName,
    plan: PlanFile = None,
    mode: Annotated[str | None, typer.Option(help="The mode of torch.compile.")] = None,
) -> None:
    """Print what happens to a task's model from Python to kernels.

    Dynamo's graphs and where they break, what each pass rewrote or left and why, and the kernels
    that Inductor's code calls.
    """
    from quire.explore import Task
    from quire.software.explain import explain as run_explain

    found = Task.resolve(task)
    explanation = run_explain(found.model, found.example_inputs, plan, mode)
    out.print(str(explanation), markup=False, highlight=False, soft_wrap=True)


@bench_app.command("compile")
def bench_compile(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:FUNCTION]", help="A function that returns a quire.Task to measure too."
        ),
    ] = None,
    results: Annotated[Path, typer.Option(help="Where the figures go, as JSON.")] = Path(
        "compile.json"
    ),
    page: Annotated[
        Path | None, typer.Option(help="Where a page with pictures goes (needs quire[report]).")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Calls of which the median is taken.")] = 30,
    seconds: Annotated[float, typer.Option(min=1, help="About how long a device may take.")] = 300,
) -> None:
    """Compare eager, torch.compile and quire.compile, and naive with fused attention.

    On the CPU and on a GPU where there is one: the first call, a later one, after how many calls
    compiling has paid off, graph breaks, kernels a call, peak memory.
    """
    from quire.software.compile_bench import default_models, devices, run
    from quire.software.machine import result

    for path in (results, *([page] if page else [])):
        check_folder(path)
    models = {**({} if task is None else _task_model(task)), **default_models()}
    figures = [
        run(models, device, repeats=repeats, seconds=seconds, tell=_tell) for device in devices()
    ]
    data = result("compile", " ".join(filter(None, ("quire bench compile", task))), figures)
    results.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    for part in figures:
        for group in ("attention", "models"):
            show(_table(part["device"], part[group]["figures"]))
            for line in _missing(part[group], part["device"]):
                out.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    out.print(f"figures: {results}", highlight=False)
    if page is not None:
        from quire.report.compilation import compilation_page

        compilation_page(data, page)
        out.print(f"page: {page}", highlight=False)


def _task_model(task: str) -> dict[str, Any]:
    """The model of a task by the task's name, with its inputs."""
    from quire.explore import Task
    from quire.software.models import with_positions

    found = Task.resolve(task)
    return {task: with_positions(found.model, found.example_inputs)}


def _tell(figures: Figures) -> None:
    """A line as soon as a figure is there, on a terminal."""
    if out.is_terminal:
        line = f"{figures.device}: {figures.model}: {figures.way}: {figures.steady_s * 1e3:.3g} ms"
        out.print(line, style="dim", markup=False, highlight=False)


def _missing(comparison: dict[str, Any], device: str) -> list[str]:
    """What failed, and what there was no time for, a line each."""
    failed = [
        f"failed on {device}: {what}: {error}" for what, error in comparison["failures"].items()
    ]
    left = comparison["left_out"]
    if not left:
        return failed
    late = f"no time for {len(left)} more on {device}, {left[0]} the first: raise --seconds"
    return [*failed, late]


def _table(device: str, rows: list[dict[str, Any]]) -> Table:
    """The figures of one device, a row each, model by model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    table = plain_table(f"model on {device}", "way")
    for head in (
        "first, s",
        "later, ms",
        "device, ms",
        "pays after",
        "breaks",
        "kernels",
        "peak, MB",
    ):
        table.add_column(head, justify="right")
    for row in sorted(rows, key=lambda row: models.index(row["model"])):
        pays = row["break_even"]
        table.add_row(
            row["model"],
            row["way"],
            f"{row['first_s']:.3g}",
            f"{row['steady_s'] * 1e3:.3g}",
            "-" if row["device_s"] is None else f"{row['device_s'] * 1e3:.3g}",
            "-" if pays is None else f"{pays:,.0f}",
            str(row["breaks"]),
            str(row["kernels"]),
            f"{row['peak_bytes'] / 1e6:.3g}",
        )
    return table
