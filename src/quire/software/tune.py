"""Measuring every kernel that can run a product, for the table that says which one does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from quire.software import bench
from quire.software.bench import Held, Product
from quire.software.kernels import Case, Kernel, Row, case_of

BF16 = "bf16"
VERSION = 1


def tune(
    products: Iterable[Product],
    formats: Sequence[str],
    keep: int = 2,
    tell: Callable[[str], object] = print,
) -> list[Row]:
    """The fastest kernels of each product and format on this machine's device, as rows.

    keep: rows for each product and format. tell: is called with each row, and with what could not
    be built. Rows of the format "bf16" are torch's own linear. Raises `KernelError` without a CUDA
    device.
    """
    device, rows = bench.needs_cuda(), list[Row]()
    name = torch.cuda.get_device_name(device)
    for product in products:
        _add(rows, [_row(name, BF16, product, "cuBLAS", bench.time_bfloat16(product))], tell)
        for format in formats:
            held = bench.held_weight(format, product.n, product.k)
            _add(rows, _measured(name, held, product, tell)[:keep], tell)
    return rows


def _add(rows: list[Row], found: list[Row], tell: Callable[[str], object]) -> None:
    rows += found
    for row in found:
        tell(f"{row.format} {row.n}x{row.k} M={row.m}: {row.microseconds} us by {row.kernel}")


def _measured(
    device: str, held: Held, product: Product, tell: Callable[[str], object]
) -> list[Row]:
    """The kernels of a product that run, the fastest first."""
    case = case_of(held.plain.codes.device, held.format, *product, torch.bfloat16)
    able = _runnable(held, product, case, tell)
    times = {kernel.name: bench.time_linear(held, product.m, kernel) for kernel in able}
    rows = [_row(device, str(held.format), product, *found) for found in times.items()]
    return sorted(rows, key=lambda row: row.microseconds)


def _runnable(
    held: Held, product: Product, case: Case, tell: Callable[[str], object]
) -> list[Kernel]:
    """The kernels of a case that were built and ran once."""
    x, runnable = bench.random(product.m, product.k), list[Kernel]()

    def attempt(kernel: Kernel) -> None:
        kernel.run(x, held.weight, None, held.format, held.n)
        runnable.append(kernel)

    able = bench.able("mx_linear", case, held.layout)
    for failed in bench.prepare(partial(attempt, kernel) for kernel in able):
        tell(failed)
    return runnable


def _row(device: str, format: str, product: Product, kernel: str, microseconds: float) -> Row:
    time = round(microseconds, 2)
    return Row(device, "mx_linear", format, "bfloat16", *product, kernel, time)


def merged(old: Iterable[Row], new: Sequence[Row]) -> list[Row]:
    """The rows of a table after a measurement: what was measured again is replaced."""
    again = {_case(row) for row in new}
    return sorted([*(row for row in old if _case(row) not in again), *new], key=_order)


def _case(row: Row) -> tuple[str, str, str, str, int, int, int]:
    return row.device, row.op, row.format, row.dtype, row.n, row.k, row.m


def _order(row: Row) -> tuple[object, ...]:
    return *_case(row), row.microseconds


def write(rows: Iterable[Row], path: Path) -> None:
    """Write a table, a row a line."""
    lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
    path.write_text(f'{{"version": {VERSION}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")
