"""The mx ops against `quire.formats`, bit for bit, and the linear against float64."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from quire.errors import FormatError, KernelError
from quire.formats import Encoded
from quire.software.kernels import Weight, select
from quire.software.mx import ops
from quire.software.mx.layout import BLOCK_SIZES, ELEMENTS, format_of, pack, unpack
from quire.software.mx.ops import mx_dequantize, mx_linear, mx_linear_tiled, mx_quantize

FORMATS = [
    str(format_of(f"block({element},size={size},scale=pow2(8))"))
    for element in ELEMENTS
    for size in BLOCK_SIZES
]
formats = pytest.mark.parametrize("text", FORMATS)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


def values(shape, dtype=torch.float32, seed=0):
    """Numbers over many binades, with zeros of both signs."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * 10 ** torch.randn(shape, generator=generator)
    x.view(-1)[::7] = 0.0
    x.view(-1)[3::11] = -0.0
    return x.to(dtype)


def same_bits(a, b):
    """Equal to the bit; every NaN is one."""
    assert a.dtype == b.dtype
    a, b = (torch.where(t.isnan(), torch.nan, t).view(BITS[t.dtype]) for t in (a, b))
    return torch.equal(a, b)


@formats
@dtypes
def test_quantize_gives_the_codes_of_the_format(text, dtype):
    fmt, x = format_of(text), values((3, 4, 150), dtype)
    x[0, 0, 5], x[1, 2, 149] = torch.nan, torch.inf
    codes, scales = mx_quantize(x, text)
    encoded = fmt.encode(x, -1)
    assert torch.equal(scales, encoded.scales)
    # The codes of a block that is NaN mean nothing.
    of_number = (scales < 255).repeat_interleave(int(fmt.size), -1)[..., :150]
    found = unpack(codes, fmt.bits, 150)
    assert torch.equal(found[of_number], encoded.codes[of_number])
    assert torch.equal(codes, pack(found, fmt.bits))
    assert scales[0, 0, 0] == scales[1, 2, -1] == 255


@pytest.mark.parametrize("element", ELEMENTS, ids=str)
@dtypes
def test_dequantize_of_every_code_and_scale(element, dtype):
    fmt = format_of(f"block({element},size=16,scale=pow2(8))")
    every = torch.arange(2**fmt.bits, dtype=torch.uint8)
    codes = every.expand(256, -1).contiguous()
    scales = torch.arange(256, dtype=torch.uint8)[:, None].expand(-1, len(every) // 16).contiguous()
    got = mx_dequantize(pack(codes, fmt.bits), scales, str(fmt), len(every), dtype)
    expected = fmt.decode(Encoded(codes, scales, None, None, 1, dtype))
    assert same_bits(got, expected)


@formats
def test_quantize_then_dequantize_is_quantize(text):
    x = values((5, 77))
    got = mx_dequantize(*mx_quantize(x, text), text, 77, torch.float32)
    assert same_bits(got, format_of(text).quantize(x, -1))


@formats
@dtypes
@pytest.mark.parametrize("bias", [False, True])
def test_linear_is_the_product_of_the_dequantized_weight(text, dtype, bias):
    k, n = 100, 7
    weight, x = values((n, k), seed=1) / 8, values((2, 3, k), seed=2).to(dtype)
    b = values((n,), dtype, seed=3) if bias else None
    got = mx_linear(x, *mx_quantize(weight, text), b, text)
    decoded = format_of(text).quantize(weight, -1).double()
    exact = F.linear(x.double(), decoded, None if b is None else b.double())
    size = F.linear(x.double().abs(), decoded.abs(), None if b is None else b.double().abs())
    assert got.dtype == dtype
    # docs/numerics.md, "Fast executor against exact", and one rounding into the dtype.
    bound = 2 * (k + 2) * 2**-24 * size + torch.finfo(dtype).eps / 2 * exact.abs()
    bound += torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    finite = exact.abs() < torch.finfo(dtype).max
    assert torch.all((got.double() - exact).abs()[finite] <= bound[finite])


def test_linear_of_powers_of_two_is_exact():
    weight = torch.tensor([[1.0, -2.0, 0.5, 4.0], [0.0, 1.0, 1.0, -1.0]])
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 8.0, 0.25]])
    for text in ("mxint8", "mxint6", "mxfp4", "mxfp8_e5m2"):
        got = mx_linear(x, *mx_quantize(weight, text), torch.tensor([0.5, -1.0]), text)
        assert torch.equal(got, torch.tensor([[15.0, 0.0], [4.5, 6.75]]))


@dtypes
def test_gradients_are_those_of_the_dequantized_weight(dtype):
    weight, bias = values((6, 40), seed=1), values((6,), dtype, seed=2)
    x, gradient = values((2, 3, 40), seed=3).to(dtype), values((2, 3, 6), dtype, seed=4)
    gradient = gradient / 64
    parts = mx_quantize(weight, "mxint6")
    decoded = mx_dequantize(*parts, "mxint6", 40, torch.float32)
    leaves = [x.requires_grad_(), bias.requires_grad_()]
    y = mx_linear(leaves[0], *parts, leaves[1], "mxint6")
    got = torch.autograd.grad(y, leaves, gradient)
    expected = gradient.float() @ decoded, gradient.sum((0, 1))
    tolerance = {"rtol": torch.finfo(dtype).eps, "atol": 1e-5 if dtype == torch.float32 else 1e-2}
    torch.testing.assert_close(got[0].float(), expected[0], **tolerance)
    torch.testing.assert_close(got[1], expected[1])


def test_the_gradient_of_float32_is_exact_for_small_integers():
    weight, x = torch.eye(4) * torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.ones(1, 4)
    y = mx_linear(x.requires_grad_(), *mx_quantize(weight, "mxint4"), None, "mxint4")
    (got,) = torch.autograd.grad(y, x, torch.tensor([[3.0, -1.0, 2.0, 1.0]]))
    assert torch.equal(got, torch.tensor([[3.0, -2.0, 8.0, 8.0]]))


@pytest.mark.parametrize("text", ["mxint8", "mxint6", "mxfp4"])
def test_opcheck(text):
    x, weight, bias = values((2, 3, 40)), values((6, 40), seed=1), values((6,), seed=2)
    codes, scales = mx_quantize(weight, text)
    torch.library.opcheck(mx_quantize, (weight, text))
    torch.library.opcheck(mx_dequantize, (codes, scales, text, 40, torch.bfloat16))
    for b in (None, bias.requires_grad_()):
        torch.library.opcheck(mx_linear, (x.requires_grad_(), codes, scales, b, text))
        arguments = (x, codes, scales, None, b, text, "plain", 6)
        torch.library.opcheck(mx_linear_tiled, arguments)


def test_one_row_without_an_axis_of_rows_has_gradients():
    codes, scales = mx_quantize(values((8, 32)), "mxint8")
    x, bias = (torch.ones(n, requires_grad=True) for n in (32, 8))
    mx_linear(x, codes, scales, bias, "mxint8").sum().backward()
    assert torch.equal(bias.grad, torch.ones(8))
    assert torch.equal(x.grad, mx_dequantize(codes, scales, "mxint8", 32, torch.float32).sum(0))


def test_a_kernel_gets_contiguous_tensors(monkeypatch):
    """Kernels read raw memory; a slice of a weight or a bias has strides."""
    weight, x = values((8, 64)), values((2, 32))
    codes, scales = mx_quantize(weight, "mxint8")
    sliced, bias = (codes[:, :32], scales[:, :1]), values((16,))[::2]
    seen = []

    def spy(op, case, layout="plain"):
        kernel = select(op, case, layout)

        def run(x, weight, bias, format, n):
            seen.extend((x, weight.codes, weight.scales, bias))
            return kernel.run(x, weight, bias, format, n)

        return replace(kernel, run=run)

    monkeypatch.setattr(ops, "select", spy)
    found = mx_linear(x, *sliced, bias, "mxint8")
    assert len(seen) == 4
    assert all(t.is_contiguous() for t in seen)
    monkeypatch.undo()
    alone = mx_quantize(weight[:, :32].contiguous(), "mxint8")
    assert torch.equal(found, mx_linear(x, *alone, bias.clone(), "mxint8"))


def test_kernels_run_on_the_device_of_their_tensors(monkeypatch):
    """Triton launches on the current device, which for a model on several is another one."""
    entered, seen = [], []

    @contextmanager
    def device_of(x):
        entered.append(x.device)
        yield
        entered.pop()

    def spy(op, case, layout="plain"):
        kernel = select(op, case, layout)

        def run(*args):
            seen.append((op, list(entered)))
            return kernel.run(*args)

        return replace(kernel, run=run)

    monkeypatch.setattr(ops, "select", spy)
    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    x = values((3, 40))
    codes, scales = mx_quantize(x, "mxint8")
    mx_dequantize(codes, scales, "mxint8", 40, torch.float32)
    mx_linear(x, codes, scales, None, "mxint8")
    names = ("mx_quantize", "mx_dequantize", "mx_linear")
    assert seen == [(name, [torch.device("cpu")]) for name in names]


def test_a_weight_elsewhere_or_in_an_unknown_layout_is_refused():
    x, (codes, scales) = values((3, 40)), mx_quantize(values((6, 40)), "mxint8")
    weight = Weight(codes.to("meta"), scales)
    with pytest.raises(FormatError, match="x is on cpu and the weight's codes on meta"):
        ops._linear(x, weight, None, format_of("mxint8"), 6, "plain")
    with pytest.raises(KernelError, match="no layout of a weight is called 'round': there are pl"):
        mx_linear_tiled(x, codes, scales, None, None, "mxint8", "round", 6)


@pytest.mark.parametrize("shape", [(1,), (9,), (8, 1)])
def test_a_bias_of_another_size_is_refused(shape):
    codes, scales = mx_quantize(values((8, 32)), "mxint8")
    with pytest.raises(FormatError, match=r"the bias of 8 outputs on cpu is \(8,\)"):
        mx_linear(values((2, 32)), codes, scales, torch.zeros(shape), "mxint8")


def test_empty_tensors():
    codes, scales = mx_quantize(torch.zeros(0, 40), "mxint4")
    assert (codes.shape, scales.shape) == ((0, 20), (0, 2))
    y = mx_linear(torch.zeros(0, 40), *mx_quantize(torch.ones(3, 40), "mxint4"), None, "mxint4")
    assert y.shape == (0, 3)


def test_it_compiles_whole_with_any_batch():
    codes, scales = mx_quantize(values((6, 40)), "mxint8")
    compiled = torch.compile(
        lambda x: torch.relu(mx_linear(x, codes, scales, None, "mxint8")),
        fullgraph=True,
        dynamic=True,
        backend="aot_eager",
    )
    for batch in (1, 2, 5):
        x = values((batch, 40), seed=batch)
        assert torch.equal(compiled(x), torch.relu(mx_linear(x, codes, scales, None, "mxint8")))


def test_refusals():
    codes, scales = mx_quantize(values((6, 40)), "mxint8")
    with pytest.raises(FormatError, match=r"mxint5: the mx ops take a block"):
        mx_quantize(values((6, 40)), "mxint5")
    with pytest.raises(FormatError, match=r"mxint8: x is torch.float64, and the mx ops take"):
        mx_quantize(values((6, 40)).double(), "mxint8")
    with pytest.raises(FormatError, match=r"x has no axis along which blocks could run"):
        mx_quantize(torch.tensor(1.0), "mxint8")
    message = r"rows of 41 elements of mxint8 are uint8 codes \(\.\.\., 41\) and scales \(\.\.\., 2"
    with pytest.raises(FormatError, match=message):
        mx_linear(torch.ones(2, 41), codes, scales, None, "mxint8")
    with pytest.raises(FormatError, match=r"mx_dequantize is torch.float64"):
        mx_dequantize(codes, scales, "mxint8", 40, torch.float64)
