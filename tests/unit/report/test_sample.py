"""Samples of tensors: elements in the unit in which their format's grid is given."""

import pytest
import torch

from quire.formats import parse
from quire.report.sample import SAMPLE, sample

X = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "text", ["mxint4", "mxfp4", "int4", "int4_g128", "nvfp4", "fixed(6,3)", "bfp(3,size=16)"]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_rounding_a_sample_to_its_grid_gives_what_the_format_gives(text: str, axis: int):
    form, x = parse(text), X.clone()
    record = sample("w", text, x, axis)
    values = torch.tensor(record.values, dtype=torch.float64)
    grid = torch.tensor(record.grid, dtype=torch.float64)
    codes = form.encode(x, axis).codes.flatten().long()
    scalar = form.element if form.is_block else form
    distance = (values[:, None] - grid).abs().amin(dim=1)
    chosen = (values - scalar.values_of(codes).double()).abs()
    inside = values.abs() < scalar.highest
    assert record.unit == ("block scale" if form.is_block else "")
    assert torch.allclose(chosen[inside], distance[inside], atol=1e-6)


def test_an_asymmetric_sample_lies_on_the_codes():
    record = sample("w", "block(ufixed(4,0),size=20,scale=bf16,zero_point=True)", X)
    assert record.grid == tuple(float(code) for code in range(16))
    assert min(record.values) > -0.6
    assert max(record.values) < 15.6


@pytest.mark.parametrize("text", ["mxint4", "fp8_e5m2", "int8"])
def test_a_sample_of_no_elements(text: str):
    assert sample("w", text, torch.zeros(0, 32)).values == ()


def test_a_block_of_zeros_is_zero():
    assert set(sample("w", "int4", torch.zeros(2, 8)).values) == {0.0}


def test_the_axes_of_a_convolution_are_one():
    weight = X.reshape(6, 10, 2, 2)
    assert sample("w", "mxint4", weight, (1, 2, 3)) == sample("w", "mxint4", X, 1)


def test_a_sample_is_bounded_and_a_wide_format_has_no_ticks():
    record = sample("w", "fp32", torch.arange(10_000.0))
    assert len(record.values) == SAMPLE
    assert (record.values[0], record.values[-1]) == (0.0, 9999.0)
    assert record.grid == ()
