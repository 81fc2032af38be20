"""Commands about formats and plans."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from quire.cli.app import TaskName, app, out, plain_table, show

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
        table.add_row(name, f"{fmt.bits_per_value(4096):.4g}", fmt.long_form())
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
) -> None:
    """Print the sites at which two plans differ; exit code 1 where there are any."""
    from quire.precision import Plan

    differences = Plan.load(first).diff(Plan.load(second))
    if not differences:
        out.print("the plans are equal")
        return
    table = plain_table("site", str(first), str(second))
    for site, (before, after) in differences.items():
        table.add_row(site, str(before or "-"), str(after or "-"))
    show(table)
    raise typer.Exit(1)
