"""The Triton kernels of block formats, in the interpreter, against the reference in torch."""

import pytest
import torch
from tests.unit.software.triton.tensors import (
    CASES,
    DTYPES,
    FORMATS,
    hard,
    meaningful,
    product_bound,
    random_bytes,
    same,
)

from quire.formats import parse
from quire.software.kernels import Weight, reference
from quire.software.kernels.triton.linear import linear
from quire.software.kernels.triton.quantize import dequantize, quantize, quantize_both
from quire.software.kernels.triton.tiles import TILES, splits_for, tile_for
from quire.software.mx.layout import row_blocks, row_bytes

# NumPy, on which the interpreter runs, warns where floats overflow as IEEE 754 has it.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

cases = pytest.mark.parametrize(("fmt", "dtype"), CASES, ids=str)
M, K = 9, 133


def assert_same_rows(found, expected, fmt, k):
    assert torch.equal(found[1], expected[1])
    assert torch.equal(meaningful(*found, fmt, k), meaningful(*expected, fmt, k))


@cases
def test_quantize_gives_the_bits_of_the_format(fmt, dtype):
    x = hard(M, K, dtype)
    assert_same_rows(quantize(x, fmt), reference.quantize(x, fmt), fmt, K)


@cases
def test_one_pass_quantizes_along_both_axes(fmt, dtype):
    x = hard(M, K, dtype)
    *rows, codes, scales = quantize_both(x, fmt)
    assert_same_rows(rows, reference.quantize(x, fmt), fmt, K)
    assert_same_rows((codes, scales), reference.quantize(x.T.contiguous(), fmt), fmt, M)


@cases
def test_dequantize_reads_every_code_and_scale(fmt, dtype):
    codes = random_bytes((256, row_bytes(fmt, K)))
    scales = torch.arange(256, dtype=torch.uint8)[:, None].expand(-1, row_blocks(fmt, K))
    found = dequantize(codes, scales.contiguous(), fmt, K, dtype)
    assert same(found, reference.dequantize(codes, scales, fmt, K, dtype))


@pytest.mark.parametrize(("index", "case"), list(enumerate(CASES)), ids=str)
@pytest.mark.parametrize("splits", [1, 3])
def test_linear_is_the_product_of_the_dequantized_weight(index, case, splits):
    fmt, dtype = case
    (m, n), generator = ((1, 17, 33, 65)[index % 4], 70), torch.Generator().manual_seed(index)
    x, bias = (torch.randn(s, generator=generator).to(dtype) for s in ((m, K), (n,)))
    codes, scales = reference.quantize(torch.randn(n, K, generator=generator), fmt)
    weight = reference.dequantize(codes, scales, fmt, K, torch.float32).double()
    exact = x.double() @ weight.T + bias.double()
    found = linear(x, Weight(codes, scales), bias, fmt, n, splits).double()
    assert ((found - exact).abs() <= product_bound(x, weight, bias, exact)).all()


def test_linear_without_bias_reads_the_most_negative_code_and_nan():
    fmt = parse("mxint8")
    codes = torch.full((3, 32), 0x80, dtype=torch.uint8)
    scales = torch.tensor([[127], [255], [0]], dtype=torch.uint8)
    found = linear(torch.ones(2, 32), Weight(codes, scales), None, fmt, 3)
    row = torch.tensor([-64.0, torch.nan, -64.0 * 2.0**-127])
    assert same(found, row.expand(2, 3))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_empty_tensors_have_empty_results(dtype):
    fmt = FORMATS[0]
    codes, scales = quantize(torch.empty(0, K, dtype=dtype), fmt)
    assert codes.shape == (0, row_bytes(fmt, K))
    assert scales.shape == (0, row_blocks(fmt, K))
    assert dequantize(codes, scales, fmt, K, dtype).shape == (0, K)


def test_a_sum_is_split_where_tiles_are_fewer_than_processors():
    tile = tile_for(1, torch.bfloat16)
    assert tile == TILES[0][1]
    assert splits_for(tile, m=1, n=4096, k=4096, processors=132) == 4
    assert splits_for(tile, m=1, n=65536, k=4096, processors=132) == 1
    assert splits_for(tile, m=1, n=64, k=512, processors=132) == 1  # 4 steps in all
