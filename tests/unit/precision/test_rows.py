"""`to_rows` and `from_rows`: what lies in a file, to the bit."""

from math import prod

import pytest
import torch

from quire.formats import parse, presets
from quire.precision.cast import Axis, as_blocks
from quire.precision.rows import from_rows, layout, to_rows

AXES: list[tuple[tuple[int, ...], Axis]] = [
    ((5, 37), 1),
    ((5, 37), 0),
    ((3, 4, 5), -2),
    ((4, 3, 3, 3), (1, 2, 3)),
    ((7,), -1),
]


@pytest.mark.parametrize(("shape", "axis"), AXES)
@pytest.mark.parametrize("name", [*presets, "bfp(5,scale_bits=5,size=3)", "fixed(3,1)", "log(5)"])
def test_values_come_back(name: str, shape: tuple[int, ...], axis: Axis) -> None:
    format = parse(name)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    parts = to_rows(format, x, axis)
    assert {part: tuple(t.shape) for part, t in parts.items()} == layout(format, shape, axis)
    blocks, block_axis = as_blocks(x, axis)
    expected = format.quantize(blocks, block_axis).reshape(shape)
    value = from_rows(format, parts, shape, axis, torch.float32)
    assert torch.equal(value.view(torch.int32), expected.view(torch.int32))


def test_rows_start_on_bytes_lowest_bit_first() -> None:
    x = torch.tensor([[1.0, 2.0, -1.0], [3.0, -4.0, 0.0]])
    parts = to_rows(parse("fixed(3,0)"), x, 1)
    # Codes 1, 2, 7 and 3, 4, 0 of three bits; nine bits take two bytes.
    assert parts["codes"].tolist() == [[0b11_010_001, 0b1], [0b00_100_011, 0b0]]


def test_columns_are_rows_where_blocks_run_along_axis_0() -> None:
    x = torch.tensor([[1.0, 2.0], [-1.0, 3.0]])
    parts = to_rows(parse("fixed(4,0)"), x, 0)
    assert parts["codes"].tolist() == [[0xF1], [0x32]]


def test_padding_is_less_than_a_byte_a_row() -> None:
    for name in ("mxint3", "bfp(3,scale_bits=3,size=4)", "uint4_g128"):
        format = parse(name)
        parts = layout(format, (10, 33), 1)
        stored = 8 * sum(prod(shape) for shape in parts.values())
        exact = format.storage_bits((10, 33), 1)
        assert exact <= stored < exact + 8 * 10 * len(parts)


def test_dtype_of_the_values() -> None:
    x = torch.randn(4, 8, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0))
    format = parse("mxint4")
    value = from_rows(format, to_rows(format, x, 1), (4, 8), 1, torch.bfloat16)
    assert torch.equal(value, format.quantize(x, 1))


def test_static_scale() -> None:
    x = torch.tensor([[0.1, -0.4]])
    format = parse("int8")
    parts = to_rows(format, x, 1, scale=0.25)
    assert from_rows(format, parts, (1, 2), 1, torch.float32).tolist() == [[0.0, -0.5]]
