"""Every registered kernel of block formats on a CUDA device, against torch and float64."""

import math
from collections.abc import Callable

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
from torch import Tensor

from quire.formats import Block, Minifloat, parse
from quire.software.kernels import (
    KERNELS,
    LAYOUTS,
    PLAIN,
    Kernel,
    Weight,
    case_of,
    load_providers,
    reference,
)
from quire.software.mx.layout import pack, row_blocks, row_bytes
from quire.software.mx.ops import mx_dequantize, mx_linear, mx_quantize

load_providers()
CUDA = torch.device("cuda")
ODD, WHOLE = (9, 133), (256, 1024)
cases = pytest.mark.parametrize(("fmt", "dtype"), CASES, ids=str)


def kernels(op: str) -> list[Kernel]:
    return [kernel for kernel in KERNELS.values() if kernel.op == op]


def shapes(fmt: Block) -> list[tuple[int, int]]:
    """Rows and their length; whole tiles, which are other code, for one size of block."""
    return [ODD, WHOLE] if fmt.size == 32 else [ODD]


def each(op: str) -> Callable:
    found = kernels(op)
    return pytest.mark.parametrize("kernel", found, ids=[kernel.name for kernel in found])


def skip_unless_supported(
    kernel: Kernel, fmt: Block, m: int, n: int, k: int, dtype: torch.dtype
) -> None:
    if not kernel.supports(case_of(CUDA, fmt, m, n, k, dtype)):
        pytest.skip(f"{kernel.name} does not run {fmt} of {dtype} here")


def fresh_seed() -> int:
    """Another one in each run; pytest prints it where a test fails."""
    seed = int(torch.seed() % 2**31)
    print(f"seed {seed}")
    return seed


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("text", ["mxint8", "mxfp8_e4m3"])
def test_tensors_need_not_be_on_the_current_device(text):
    x = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    expected = mx_quantize(x, text)
    assert torch.cuda.current_device() == 0
    codes, scales = mx_quantize(x.to("cuda:1"), text)
    assert torch.equal(codes.cpu(), expected[0])
    assert torch.equal(scales.cpu(), expected[1])
    values = mx_dequantize(codes, scales, text, 128, torch.float32)
    assert torch.equal(values.cpu(), mx_dequantize(*expected, text, 128, torch.float32))
    ones = torch.ones(1, 128, device="cuda:1", dtype=torch.float16)
    torch.testing.assert_close(
        mx_linear(ones, codes, scales, None, text).float(),
        values.sum(1)[None],
        rtol=1e-2,
        atol=1e-2,
    )


@each("mx_quantize")
@cases
def test_quantize_gives_the_bits_of_the_format(kernel, fmt, dtype, poisoned):
    for m, k in shapes(fmt):
        skip_unless_supported(kernel, fmt, m, 0, k, dtype)
        x = hard(m, k, dtype, fresh_seed())
        codes, scales = (t.cpu() for t in poisoned(kernel.run, x.to(CUDA), fmt))
        expected = reference.quantize(x, fmt)
        assert torch.equal(scales, expected[1])
        found = meaningful(codes, scales, fmt, k)
        assert torch.equal(found, meaningful(*expected, fmt, k))


@each("mx_quantize_both")
@cases
def test_one_pass_quantizes_along_both_axes(kernel, fmt, dtype, poisoned):
    for m, k in shapes(fmt):
        skip_unless_supported(kernel, fmt, m, 0, k, dtype)
        x = hard(m, k, dtype, fresh_seed())
        found = [t.cpu() for t in poisoned(kernel.run, x.to(CUDA), fmt)]
        expected = (*reference.quantize(x, fmt), *reference.quantize(x.T.contiguous(), fmt))
        for pair, length in ((slice(0, 2), k), (slice(2, 4), m)):
            assert torch.equal(found[pair][1], expected[pair][1])
            codes = meaningful(*found[pair], fmt, length)
            assert torch.equal(codes, meaningful(*expected[pair], fmt, length))


@each("mx_dequantize")
@cases
def test_dequantize_reads_every_code_and_scale(kernel, fmt, dtype, poisoned):
    for _, k in shapes(fmt):
        skip_unless_supported(kernel, fmt, 256, 0, k, dtype)
        codes = random_bytes((256, row_bytes(fmt, k)), fresh_seed())
        scales = torch.arange(256, dtype=torch.uint8)[:, None].expand(-1, row_blocks(fmt, k))
        scales = scales.contiguous()
        (found,) = poisoned(kernel.run, codes.to(CUDA), scales.to(CUDA), fmt, k, dtype)
        assert same(found.cpu(), reference.dequantize(codes, scales, fmt, k, dtype))


def random_weight(fmt: Block, n: int, k: int, seed: int, layout: str) -> Weight:
    """Every code that is a number, under scales of a few binades that keep values below 2.

    A device's layout has no place for the lowest code of fixed point, which no cast gives.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**fmt.bits, (n, k), generator=generator, dtype=torch.uint8)
    if isinstance(fmt.element, Minifloat):
        finite = fmt.element.values_of(codes.long()).isfinite()
        codes = torch.where(finite, codes, 0)
    elif layout != PLAIN:
        codes = torch.where(codes == 2 ** (fmt.bits - 1), 0, codes)
    top = 127 - math.floor(math.log2(fmt.element.highest))
    scales = torch.randint(top - 6, top, (n, row_blocks(fmt, k)), generator=generator)
    return Weight(pack(codes, fmt.bits), scales.to(torch.uint8))


def in_layout(kernel: Kernel, weight: Weight, fmt: Block, k: int, dtype: torch.dtype) -> Weight:
    """A plain weight in the layout that a kernel takes."""
    if kernel.layout == PLAIN:
        return weight
    tiled = LAYOUTS[kernel.layout].tile(weight, fmt, k, dtype)
    assert tiled is not None
    return tiled


def check_linear(
    kernel: Kernel, fmt: Block, dtype: torch.dtype, shape: tuple[int, int, int], call: Callable
) -> None:
    m, n, k = shape
    skip_unless_supported(kernel, fmt, m, n, k, dtype)
    seed = fresh_seed()
    generator = torch.Generator().manual_seed(seed)
    x, bias = (torch.randn(s, generator=generator).to(CUDA, dtype) for s in ((m, k), (n,)))
    plain = Weight(*(t.to(CUDA) for t in random_weight(fmt, n, k, seed, kernel.layout)[:2]))
    values = reference.dequantize(plain.codes, plain.scales, fmt, k, torch.float32).double()
    weight = in_layout(kernel, plain, fmt, k, dtype)
    exact = x.double() @ values.T + bias.double()
    (found,) = call(kernel.run, x, weight, bias, fmt, n)
    assert found.dtype == dtype
    assert_close(found, exact, product_bound(x, values, bias, exact))
    (found,) = call(kernel.run, x, weight, None, fmt, n)
    bias = torch.zeros_like(bias)
    exact = x.double() @ values.T
    assert_close(found, exact, product_bound(x, values, bias, exact))


def assert_close(found: Tensor, exact: Tensor, bound: Tensor) -> None:
    over = (found.double() - exact).abs() / bound
    assert float(over.nan_to_num(torch.inf).max()) <= 1


ROWS = (1, 2, 7, 16, 17, 40, 64, 100, 200)
LAYERS = [(m, 1024, 4096) for m in (1, 8, 16, 64, 256, 1024)]
RAGGED = [(7, 70, 203), (40, 333, 1000), (200, 70, 203)]


@each("mx_linear")
@cases
def test_linear_of_odd_shapes(kernel, fmt, dtype, poisoned):
    rows = ROWS[FORMATS.index(fmt) % len(ROWS)]
    check_linear(kernel, fmt, dtype, (rows, 70, 203), poisoned)


@each("mx_linear")
@pytest.mark.parametrize("name", ["mxint8", "mxint4"])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
@pytest.mark.parametrize("shape", [*LAYERS, *RAGGED], ids=str)
def test_linear_of_a_layer(kernel, name, dtype, shape, poisoned):
    check_linear(kernel, parse(name), dtype, shape, poisoned)
