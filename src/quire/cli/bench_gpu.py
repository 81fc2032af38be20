"""Commands that measure the GPU: `quire bench gpu` and `quire bench tune`."""

from __future__ import annotations

import re
from itertools import product as pairs_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quire.cli.app import check_folder, out, plain_table, show
from quire.cli.software import bench_app
from quire.errors import QuireError

if TYPE_CHECKING:
    from quire.software.bench import Product
    from quire.software.roofline import Point

Shapes = Annotated[
    list[str] | None,
    typer.Option("--shape", "-s", help="Out and in features of a layer: 4096x14336. Repeat it."),
]
Rows = Annotated[
    list[int] | None, typer.Option("--rows", "-m", help="Rows of the activation. Repeat it.")
]
Formats = Annotated[
    list[str] | None, typer.Option("--format", "-f", help="A format of the weight. Repeat it.")
]
SHAPES, ROWS, FORMATS = (
    ["4096x4096", "8192x8192"],
    [1, 16, 64, 256, 1024, 4096],
    ["mxint8", "mxint4"],
)


def products(shapes: list[str], rows: list[int]) -> list[Product]:
    """The products of texts NxK and numbers of rows; raises `QuireError` for other texts."""
    from quire.software.bench import Product

    found: list[Product] = []
    for text, m in pairs_of(shapes, rows):
        sizes = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
        if not sizes or m < 1:
            raise QuireError(
                f"--shape {text!r}, --rows {m}: write 4096x14336 (out x in), and 1 or more"
            )
        found.append(Product(m, int(sizes[1]), int(sizes[2])))
    return found


@bench_app.command("gpu")
def bench_gpu(
    shape: Shapes = None,
    rows: Rows = None,
    format: Formats = None,
    page: Annotated[
        Path | None, typer.Option(help="Where a roofline goes, as a page (needs quire[report]).")
    ] = None,
) -> None:
    """Time linear layers in codes on the GPU, beside bf16 and what memory and arithmetic allow.

    By the kernels that the table names, in CUDA graphs, with weights that no cache holds.
    """
    from quire.software.bench import limits, needs_cuda
    from quire.software.roofline import measure, write_page

    if page is not None:
        check_folder(page)
    device = needs_cuda()
    found = products(shape or SHAPES, rows or ROWS)
    known = limits(device)
    points = measure(found, format or FORMATS, known)
    table = plain_table("layer", "weight", "us", "times bf16", "of the limit", "bound by", "kernel")
    for point in points:
        table.add_row(*_cells(point))
    show(table)
    if page is not None:
        write_page(points, known, page)
        out.print(f"page: {page}", highlight=False)


def _cells(point: Point) -> tuple[str, ...]:
    times = f"{point.bfloat16 / point.microseconds:.2f}"
    share = f"{point.limit / point.microseconds:.0%}"
    text = f"{point.microseconds:.1f}"
    return str(point.product), point.format, text, times, share, point.bound, point.kernel


@bench_app.command("tune")
def bench_tune(
    shape: Shapes = None,
    rows: Rows = None,
    format: Formats = None,
    keep: Annotated[int, typer.Option(help="Kernels that are kept for each case.")] = 2,
    table: Annotated[
        Path | None, typer.Option(help="The table that is written; Quire's own, if not given.")
    ] = None,
) -> None:
    """Time every kernel of each product on the GPU, and write which are the fastest."""
    from quire.software.kernels.table import PATH
    from quire.software.kernels.table import rows as known
    from quire.software.tune import merged, tune, write

    path = table or PATH
    check_folder(path)
    measured = tune(products(shape or SHAPES, rows or ROWS), format or FORMATS, keep, out.print)
    write(merged(known(path), measured), path)
    out.print(f"table: {path}", highlight=False)
