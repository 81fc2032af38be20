"""Commands about formats and plans."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.table import Table

from quire.cli.app import TaskName, app, out, plain_table, show

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from quire.graph import Site
    from quire.precision import Entry

LONG = 4096
"""Values of a row on which the share of a scale in the bits of a value is known well enough."""

plan_app = typer.Typer(no_args_is_help=True, help="List the sites of a model; compare plans.")
app.add_typer(plan_app, name="plan")


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
        show(_presets_table())
        out.print()
        show(_families_table())


def _presets_table() -> Table:
    from quire.formats import presets

    table = plain_table("name", "bits", "written out")
    for name, fmt in presets.items():
        table.add_row(name, f"{fmt.bits_per_value(LONG):.4g}", fmt.long_form())
    return table


def _families_table() -> Table:
    """Each family by its example and the first line of its documentation."""
    from quire.formats import families
    from quire.formats.registry import EXAMPLES

    table = plain_table("family, by an example", "meaning")
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
    table = plain_table("site", "op", "role", "shape")
    for head in ("elements", "MACs fed"):
        table.add_column(head, justify="right")
    table.add_column("tied to")
    for row in rows:
        tie = row["tie"] if row["tie"] != row["name"] else ""
        shape = "x".join(map(str, row["shape"]))
        numbers = (f"{row[key]:,}" if row[key] else "" for key in ("elements", "macs"))
        table.add_row(row["name"], row["op"], row["role"], shape, *numbers, tie)
    show(table)


@plan_app.command("diff")
def plan_diff(
    first: Annotated[Path, typer.Argument(help="A plan file.")],
    second: Annotated[Path, typer.Argument(help="Another one.")],
    task: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="A function that returns a quire.Task: compares costs too, and takes patterns.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print the sites at which two plans differ, and with a task what both cost.

    Bits are those stored for a value, on the rows of the task's model, else on long rows. The exit
    code is 1 where the plans differ.
    """
    found = _compare(first, second, task)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _show_difference(found, str(first), str(second))
    raise typer.Exit(1 if found["differences"] else 0)


def _compare(first: Path, second: Path, task: str | None) -> dict[str, Any]:
    """The differences of two plans as plain data, the costs of both where there is a task."""
    from quire.precision import CostModel, Plan

    graph = _graph(task) if task else None
    plans = [Plan.load(path, graph) for path in (first, second)]
    model = CostModel(graph) if graph else None
    costs = [model(plan).metrics() for plan in plans] if model else [{}, {}]
    known = model.sites if model else {}
    rows = [
        {
            "site": site,
            "first": before and before.to_json(),
            "second": after and after.to_json(),
            "bits": [_bits(known.get(site), entry) for entry in (before, after)],
        }
        for site, (before, after) in plans[0].diff(plans[1]).items()
    ]
    return {
        "sites": len({*plans[0], *plans[1]}),
        "differences": rows,
        "costs": {name: [costs[0][name], costs[1][name]] for name in costs[0]},
    }


def _graph(task: str) -> "GraphModule":
    from quire.explore import Task
    from quire.graph import capture

    found = Task.resolve(task)
    return capture(found.model, found.example_inputs)


def _bits(site: "Site | None", entry: "Entry | None") -> float | None:
    """Stored bits a value; None for a site without an entry of which nothing is known."""
    from quire.formats import parse
    from quire.precision.rows import flatten_shape

    if site is None:
        return entry.format.bits_per_value(LONG) if entry else None
    format = entry.format if entry else parse("fp32") if site.is_operand else None
    if format is None:
        return None
    axis = site.axis if entry is None or entry.axis is None else entry.axis
    shape, axis = flatten_shape(site.shape, axis)
    return format.bits_per_value(shape[axis] if shape else 1)


def _show_difference(found: dict[str, Any], first: str, second: str) -> None:
    rows = found["differences"]
    if rows:
        table = plain_table("site")
        for name in (first, second):
            table.add_column(name, overflow="fold")
            table.add_column("bits", justify="right")
        for row in rows:
            before, after = (_words(row[key]) for key in ("first", "second"))
            bits = ["-" if value is None else f"{value:.4g}" for value in row["bits"]]
            table.add_row(row["site"], before, bits[0], after, bits[1])
        show(table)
    if found["costs"]:
        table = plain_table("cost")
        for name in (first, second, "change"):
            table.add_column(name, justify="right", overflow="fold")
        for name, (before, after) in found["costs"].items():
            change = f"{(after - before) / before:+.1%}" if before and after != before else ""
            table.add_row(name, *(f"{value:,.6g}" for value in (before, after)), change)
        show(table)
    total, count = found["sites"], len(rows)
    told = f"{count} of {total} sites differ" if rows else f"the plans are equal ({total} sites)"
    out.print(told, highlight=False)


def _words(entry: Any) -> str:
    """An entry of a plan's file in words."""
    if isinstance(entry, dict):
        said = cast("dict[str, Any]", entry)
        rest = [f"{name}={value}" for name, value in said.items() if name != "format"]
        return " ".join([said["format"], *rest])
    return entry or "-"
