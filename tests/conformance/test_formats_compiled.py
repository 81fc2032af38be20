"""`torch.compile` gives the bits of eager for every registered format, without a graph break.

The shapes matter: loops whose tails vectorised code handles apart, axes that blocks do not divide,
and neighbours that a compiler may fuse with the rounding.
"""

import math

import pytest
import torch
from tests.conformance.test_formats import FORMATS, accepts, bits, dtype_of

from quire.formats import Format, Scalar, parse

# Raised inside torch while its compiler is first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

SCALARS = [f for f in FORMATS if isinstance(f, Scalar)]
# One block of each scale rule and of each way to round an element; a ragged last block in each.
RULES = [
    "mxint8",
    "bm(e=2,m=1,scale_bits=8,size=16)",
    "nvfp4",
    "uint4_g128",
    "block(binary,size=16,scale=bf16)",
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def tensor(shape, dtype) -> torch.Tensor:
    """Magnitudes from the smallest subnormal to the largest number, zeros, Inf and NaN."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    rows = torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    magnitude = torch.tensor([0, 0, 3, -8, 0, 60, -60, 125, -140])[rows % 9]
    x = (x * torch.exp2(magnitude.double())).to(dtype)
    kind = torch.rand(shape, generator=generator)
    for share, value in ((0.02, 0.0), (0.04, -0.0), (0.06, 1.5), (0.07, 2.5), (0.08, -0.5)):
        x = torch.where((kind < share) & (kind >= share - 0.02), value, x)
    flat = x.view(-1)
    last = flat.numel() - 1
    for position, value in ((last, math.nan), (last // 2, math.inf), (last // 3, -math.inf)):
        flat[position] = value
    largest = torch.finfo(dtype).max
    flat[last // 5], flat[last // 7] = largest, -largest
    x[:2] = 0.0
    return x


def assert_same(compiled, eager):
    for got, expected in zip(compiled, eager, strict=True):
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        wrong = bits(got) != bits(expected)
        assert not wrong.any(), (
            f"{int(wrong.sum())} of {wrong.numel()} differ, first at"
            f" {wrong.nonzero()[0].tolist()}: {got[wrong][0].item()!r} compiled,"
            f" {expected[wrong][0].item()!r} eager"
        )


def assert_same_compiled(function, *inputs, **options):
    with torch.no_grad():
        compiled = torch.compile(function, fullgraph=True, **options)
        got = [t.clone() for t in compiled(*inputs)]  # before eager writes to the same tensors
        assert_same(got, function(*inputs))


def in_context(fmt: Format, axis: int):
    """Alone, into a ready tensor, and between other ops."""

    def function(x: torch.Tensor, ready: torch.Tensor):
        alone = fmt.quantize(x, axis)
        chained = torch.relu(fmt.quantize(x * 2, axis))
        ready.copy_(fmt.quantize(x, axis))
        return alone, chained, ready

    return function


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_every_scalar_format_compiles(dtype):
    fitting = [f for f in SCALARS if accepts(f, dtype)]
    assert_same_compiled(lambda x: [f.quantize(x) for f in fitting], tensor((64, 95), dtype))


@pytest.mark.parametrize("name", RULES)
def test_every_scale_rule_compiles(name):
    fmt = parse(name)
    x = tensor((80, 95), torch.float32)
    assert_same_compiled(lambda x: (fmt.quantize(x), fmt.quantize(x, 0)), x)


def test_casts_between_other_ops_compile():
    fmt = parse("mxint8")
    assert_same_compiled(in_context(fmt, -1), tensor((64, 95), torch.float32), torch.empty(64, 95))


def across_layouts(fmt: Format, axes: tuple[int, int, int]):
    """As `in_context`, each context on its own tensor: one graph to compile instead of three."""

    def function(xs: list[torch.Tensor], ready: torch.Tensor):
        alone = fmt.quantize(xs[0], axes[0])
        chained = torch.relu(fmt.quantize(xs[1] * 2, axes[1]))
        ready.copy_(fmt.quantize(xs[2], axes[2]))
        return alone, chained, ready

    return function


@pytest.mark.nightly
@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_every_format_compiles_in_every_layout(fmt):
    half = torch.bfloat16 if accepts(fmt, torch.bfloat16) else dtype_of(fmt)
    cases = [((64, 95), dtype_of(fmt)), ((128, 96), dtype_of(fmt)), ((64, 95), half)]
    xs = [tensor(shape, dtype) for shape, dtype in cases]
    assert_same_compiled(across_layouts(fmt, (-1, 0, -1)), xs, torch.empty_like(xs[-1]))


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*RULES, "fixed(8,4)", "mxfp8_e4m3", "nf4", "int8", "uint8"])
def test_shapes_that_blocks_do_not_divide_compile(name):
    # Contexts other than those in which every format meets these axes.
    xs = [tensor(shape, torch.float32) for shape in ((3, 77, 40), (4096, 95), (95, 4096))]
    assert_same_compiled(across_layouts(parse(name), (1, -1, 0)), xs, torch.empty_like(xs[-1]))


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*RULES, "fixed(8,4)", "fp8_e4m3", "log(8)"])
def test_dynamic_shapes_compile(name):
    fmt = parse(name)
    function = torch.compile(lambda x: (fmt.quantize(x),), fullgraph=True, dynamic=True)
    for rows in (64, 31, 7):
        x = tensor((rows, 95), torch.float32)
        assert_same(function(x), [fmt.quantize(x)])


@pytest.mark.nightly
@pytest.mark.parametrize("name", [*RULES, "fixed(8,4)", "fp8_e4m3", "log(8)"])
def test_strided_inputs_compile(name):
    fmt = parse(name)
    x = tensor((95, 128), torch.float32)

    def function(turned: torch.Tensor, sparse: torch.Tensor):
        return fmt.quantize(turned), fmt.quantize(turned, 0), fmt.quantize(sparse)

    assert_same_compiled(function, x.T, x[:, ::2])


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["mxint8", "int4_g128", "nvfp4", "uint8"])
def test_codes_compile(name):
    fmt = parse(name)
    x = torch.nan_to_num(tensor((64, 95), torch.float32))

    def function(x: torch.Tensor):
        encoded = fmt.encode(x)
        return [fmt.decode(encoded, torch.float32), encoded.codes.float(), encoded.scales.float()]

    assert_same_compiled(function, x)
