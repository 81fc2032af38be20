"""What is computed from measured times: limits, rows of the table, and the roofline."""

import json

import pytest

from quire.cli.bench_gpu import products
from quire.errors import QuireError
from quire.formats import parse
from quire.software.bench import KNOWN, Product, needs_cuda, weight_bytes
from quire.software.kernels import Row
from quire.software.kernels.table import rows
from quire.software.roofline import Point, figure, write_page
from quire.software.tune import merged, write

H200 = KNOWN["NVIDIA H200"]


def row(m: int, kernel: str, time: float, device: str = "NVIDIA H200") -> Row:
    return Row(device, "mx_linear", "mxint8", "bfloat16", m, 64, 128, kernel, time)


@pytest.mark.parametrize(
    ("m", "format", "expected"),
    [(1, "mxint8", 4.03), (1, "mxint4", 2.08), (4096, "mxint8", 173.97)],
)
def test_the_limit_of_a_product_is_memory_or_arithmetic(m, format, expected):
    weight = weight_bytes(parse(format), 4096, 4096)
    assert H200.microseconds(Product(m, 4096, 4096), weight) == pytest.approx(expected, abs=0.01)


def test_the_bytes_of_a_product_are_weight_x_and_out():
    assert weight_bytes(parse("mxint4"), 3, 33) == 3 * (17 + 2)
    assert Product(5, 3, 33).bytes(57) == 57 + 2 * 5 * (3 + 33)
    assert Product(5, 3, 33).operations == 2 * 5 * 3 * 33


def test_what_is_measured_again_replaces_the_rows_of_its_case():
    old = [row(1, "a", 3.0), row(1, "b", 4.0), row(2, "a", 5.0), row(1, "a", 1.0, "other")]
    new = [row(1, "c", 2.0), row(1, "a", 1.5)]
    assert merged(old, new) == [
        row(1, "a", 1.5), row(1, "c", 2.0), row(2, "a", 5.0), row(1, "a", 1.0, "other")
    ]  # fmt: skip


def test_a_table_that_is_written_is_read_again(tmp_path):
    table = [row(1, "a", 3.0), row(2, "b", 4.25)]
    write(table, tmp_path / "table.json")
    assert rows(tmp_path / "table.json") == tuple(table)
    assert json.loads((tmp_path / "table.json").read_text())["version"] == 1


def test_a_point_lies_below_the_roof(tmp_path):
    at = Product(1, 4096, 4096)
    found = Point(at, "mxint8", 8.0, 13.0, 4.0, at.bytes(17301504), "memory", "warp")
    assert found.speed == 2 * 4096**2 / 8e-6
    drawn = figure([found], H200)
    line, trace = drawn["data"]
    assert max(line["y"]) == 790
    assert line["x"][1] == 790 / 4.3
    assert trace["x"] == [found.intensity]
    assert trace["y"][0] < found.intensity * 4.3
    write_page([found], H200, tmp_path / "roofline.html")
    assert "8.0 us" in (tmp_path / "roofline.html").read_text()


def test_shapes_are_out_times_in_features():
    assert products(["64x128"], [1, 2]) == [Product(1, 64, 128), Product(2, 64, 128)]
    for text in ("64", "64x", "0x64", "64*64", "64x64x64"):
        with pytest.raises(QuireError, match="write 4096x14336"):
            products([text], [1])


def test_without_a_device_the_message_says_what_torch_is_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(QuireError, match=r"no CUDA device: .*torch here is .*built for CUDA"):
        needs_cuda()
