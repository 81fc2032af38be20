"""Which kernel runs a case: what was measured nearest, else the first that can."""

import json

import pytest
import torch

from quire.formats import parse
from quire.software import kernels
from quire.software.kernels import Case, Kernel, select
from quire.software.kernels.table import Row, nearest, rows

MXINT8 = parse("mxint8")


def case(m=1, n=4096, k=4096, **more):
    fields = {"device": "card", "capability": (9, 0), "format": MXINT8, "dtype": torch.bfloat16}
    return Case(**{**fields, **more}, m=m, n=n, k=k)


def row(kernel, microseconds, m=1, n=4096, k=4096, **more):
    fields = {"device": "card", "op": "mx_linear", "format": "mxint8", "dtype": "bfloat16"}
    return {
        **fields,
        **more,
        "m": m,
        "n": n,
        "k": k,
        "kernel": kernel,
        "microseconds": microseconds,
    }


@pytest.fixture
def table(tmp_path):
    measured = [
        row("small", 8, m=1),
        row("large", 20, m=1),
        row("small", 40, m=64),
        row("large", 30, m=64),
        row("small", 1, m=64, device="other card"),
        row("small", 1, m=64, format="mxint4"),
        row("small", 1, m=64, dtype="float16"),
        row("small", 1, m=64, op="mx_dequantize"),
    ]
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"version": 1, "rows": measured}))
    return path


@pytest.mark.parametrize(
    ("m", "kernel"), [(1, "small"), (5, "small"), (6, "large"), (64, "large"), (4096, "large")]
)
def test_the_fastest_of_the_nearest_measured_shape(table, m, kernel):
    found = nearest("mx_linear", case(m), {"small", "large"}, table)
    assert found is not None
    assert found.kernel == kernel


def test_only_rows_of_the_case_and_of_kernels_that_can_run_it(table):
    found = nearest("mx_linear", case(64), {"small"}, table)
    assert found == Row("card", "mx_linear", "mxint8", "bfloat16", 64, 4096, 4096, "small", 40)
    assert nearest("mx_linear", case(), {"none"}, table) is None


def test_rows_of_another_device_or_width_serve_where_there_are_none(table):
    found = nearest("mx_linear", case(64, device="none", capability=(8, 0)), {"large"}, table)
    assert found is not None
    assert (found.device, found.format, found.m) == ("card", "mxint8", 64)
    found = nearest("mx_linear", case(64, format=parse("mxfp4")), {"small"}, table)
    assert found is not None
    assert found.format == "mxint4"
    assert nearest("mx_linear", case(64, dtype=torch.float32), {"small"}, table) is None


def test_no_table_no_row(tmp_path):
    assert rows(tmp_path / "none.json") == ()


def test_the_first_registered_that_supports_a_case(monkeypatch):
    kernels.load_providers()
    monkeypatch.setattr(kernels, "KERNELS", {})
    for name, largest in (("a", 16), ("b", 64), ("c", 64)):
        kernels.register(
            Kernel(name, "mx_linear", lambda c, largest=largest: c.m <= largest, lambda: None)
        )
    kernels.register(Kernel("tiled", "mx_linear", lambda c: True, lambda: None, "tiles"))
    chosen = {m: select("mx_linear", case(m)) for m in (1, 16, 17, 64, 65)}
    assert {m: kernel and kernel.name for m, kernel in chosen.items()} == {
        1: "a",
        16: "a",
        17: "b",
        64: "b",
        65: None,
    }
    tiled = select("mx_linear", case(65), "tiles")
    assert tiled is not None
    assert tiled.name == "tiled"


@pytest.mark.parametrize("op", ["mx_quantize", "mx_dequantize", "mx_linear"])
def test_plain_torch_runs_every_op_on_an_unknown_device(op):
    kernel = select(op, case(device="a new card", capability=(99, 0)))
    assert kernel is not None
