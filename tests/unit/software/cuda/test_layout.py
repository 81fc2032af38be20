"""The tiled layout: an exact inverse, what it refuses, and that the kernels' decoding reads it."""

from itertools import product

import pytest
import torch
from tests.unit.software.cuda.emulation import DECODES, decoded

from quire.errors import KernelError
from quire.formats import Block, parse
from quire.software.kernels import Weight
from quire.software.kernels.cuda.configs import CONFIGS
from quire.software.kernels.cuda.layout import CODINGS, is_tileable, tile, tiled_shape, untile
from quire.software.kernels.cuda.linear import run
from quire.software.mx.layout import (
    BLOCK_SIZES,
    E8M0,
    element_values,
    pack,
    row_blocks,
    unpack,
)

BF16 = torch.bfloat16
FORMATS = [Block(element, size, E8M0) for element, size in product(CODINGS, BLOCK_SIZES)]
SHAPES = [(1, 1), (3, 64), (70, 133), (64, 128), (130, 200)]
formats = pytest.mark.parametrize("fmt", FORMATS, ids=str)
INT8 = parse("mxint8")


def lowest_code(fmt: Block) -> int:
    """The code of -2, which encoders never give."""
    return 1 << fmt.bits - 1


def random_weight(fmt: Block, n: int, k: int, low: int = 90, high: int = 140) -> Weight:
    """Every code that the layout holds, under random scales."""
    generator = torch.Generator().manual_seed(n + k)
    codes = torch.randint(0, 2**fmt.bits, (n, k), generator=generator, dtype=torch.uint8)
    if CODINGS[fmt.element].is_symmetric:
        codes[codes == lowest_code(fmt)] += 1
    scales = torch.randint(low, high, (n, row_blocks(fmt, k)), generator=generator)
    return Weight(pack(codes, fmt.bits), scales.to(torch.uint8))


def values(weight: Weight, fmt: Block, k: int) -> torch.Tensor:
    """The values of a plain weight in float64, in which none overflows."""
    elements = element_values(fmt, weight.codes.device)[unpack(weight.codes, fmt.bits, k).int()]
    scales = torch.exp2(weight.scales.double() - 127).repeat_interleave(int(fmt.size), 1)
    return elements.double() * scales[:, :k]


def assert_tiles_exactly(weight: Weight, fmt: Block, k: int) -> None:
    n = weight.codes.shape[0]
    tiled = tile(weight, fmt, k, BF16)
    assert tiled is not None
    back = untile(tiled, fmt, n, k, BF16)
    assert torch.equal(back.codes, weight.codes)
    assert torch.equal(back.scales, weight.scales)
    assert torch.equal(decoded(tiled, fmt, n, k), values(weight, fmt, k))


def with_block(fmt: Block, row: int, block: int, codes: int, scale: int) -> Weight:
    """A random weight (66, 256), one block of which has one code and a scale."""
    plain, size = random_weight(fmt, 66, 256), int(fmt.size)
    every = unpack(plain.codes, fmt.bits, 256).clone()
    every[row, block * size : (block + 1) * size] = codes
    plain.scales[row, block] = scale
    return Weight(pack(every, fmt.bits), plain.scales)


def test_every_coding_is_emulated():
    assert DECODES.keys() == CODINGS.keys()


@formats
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_tiling_has_an_exact_inverse_and_the_kernels_read_it(fmt, shape):
    assert is_tileable(fmt)
    assert_tiles_exactly(random_weight(fmt, *shape), fmt, shape[1])


@formats
def test_the_weight_of_an_encoder_is_held(fmt):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(70, 200, generator=generator) * torch.exp2(
        torch.randint(-40, 40, (70, 1), generator=generator).float()
    )
    x[3], x[4, :130], x[5, 7:] = 0.0, 0.0, 0.0
    encoded = fmt.encode(x, 1)
    weight = Weight(pack(encoded.codes.to(torch.uint8), fmt.bits), encoded.scales.to(torch.uint8))
    assert_tiles_exactly(weight, fmt, 200)


@formats
@pytest.mark.parametrize("scale", [0, 100], ids=str)
def test_a_block_of_zeros_keeps_its_scale(fmt, scale):
    assert_tiles_exactly(with_block(fmt, 65, 1, 0, scale), fmt, 256)


@formats
@pytest.mark.parametrize(("low", "high"), [(0, 100), (1, 2), (130, 250)], ids=str)
def test_rows_of_small_and_of_large_scales_are_held(fmt, low, high):
    assert_tiles_exactly(random_weight(fmt, 9, 300, low, high), fmt, 300)


@formats
def test_the_largest_scales_are_held_or_refused(fmt):
    weight = random_weight(fmt, 16, 64, 254, 255)
    if fmt.bits == 4:  # the power of two of a row would be beyond float32
        assert tile(weight, fmt, 64, BF16) is None
    else:
        assert_tiles_exactly(weight, fmt, 64)


def test_each_row_has_a_range_of_its_own():
    weight = random_weight(INT8, 4, 64)
    weight.scales[:] = torch.tensor([[0, 127], [127, 254], [60, 187], [254, 254]])
    assert_tiles_exactly(weight, INT8, 64)


@formats
@pytest.mark.parametrize("shape", [(1, 1), (70, 133)], ids=str)
def test_a_scale_that_is_nan_is_refused(fmt, shape):
    weight = random_weight(fmt, *shape)
    weight.scales[-1, -1] = 255
    assert tile(weight, fmt, shape[1], BF16) is None


@formats
def test_a_row_that_spans_more_than_the_exponents_of_bf16_is_refused(fmt):
    weight = random_weight(fmt, 2, 256)
    weight.codes[:] = 0x11
    weight.scales[1, 0], weight.scales[1, 1] = 0, 254
    assert tile(weight, fmt, 256, BF16) is None


@pytest.mark.parametrize("shape", [(3, 0), (0, 64), (0, 0)])
def test_a_weight_without_values_is_refused(shape):
    assert tile(random_weight(INT8, *shape), INT8, shape[1], BF16) is None


@formats
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernel_refuses_a_weight_of_another_size(fmt, shape):
    """It would read beyond the weight."""
    (n, k), config = shape, CONFIGS[0]
    weight = tile(random_weight(fmt, n, k), fmt, k, BF16)
    assert weight.codes.shape[:2] == tiled_shape(n, k)
    for rows, columns in ((n + 64, k), (n, k + 128)):
        with pytest.raises(KernelError, match=f"a weight of {rows} rows for x .1, {columns}. has"):
            run(config, torch.zeros(1, columns, dtype=BF16), weight, None, fmt, rows)


@formats
def test_the_lowest_code_is_held_or_refused(fmt):
    weight = random_weight(fmt, 3, 256)
    every = unpack(weight.codes, fmt.bits, 256).clone()
    every[2, 255] = lowest_code(fmt)
    weight = Weight(pack(every, fmt.bits), weight.scales)
    if CODINGS[fmt.element].is_symmetric:
        assert tile(weight, fmt, 256, BF16) is None
    else:
        assert_tiles_exactly(weight, fmt, 256)


@pytest.mark.parametrize("name", ["mxfp8_e4m3", "mxfp4", "int8", "fixed(8,6)"])
def test_other_formats_are_not_tiled(name):
    assert not is_tileable(parse(name))
