"""Attention with casts inside: the Triton kernel in the interpreter, the op, and the predicate."""

import pytest
import torch
from tests.unit.software.triton.attention_cases import CASES, assert_is_attention, operands

from quire.errors import FormatError
from quire.software.attention import casts_of, fused_attention, opened, problem
from quire.software.attention_casts import products
from quire.software.kernels.triton.attention import attention

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
cases = pytest.mark.parametrize("case", CASES, ids=[f"case{i}" for i in range(len(CASES))])


@cases
def test_the_kernel_is_attention(case):
    given = operands(case, seed=1)
    scale = case.shape[5] ** -0.5
    found = attention(*given, casts_of(*case.formats), scale, case.is_causal)
    assert_is_attention(case, found, given)


@cases
def test_the_op_on_a_cpu_is_attention(case):
    query, key, value, mask = operands(case, seed=2)
    if case.dtype != torch.float32:  # torch rounds scores and probabilities to narrower dtypes
        query, key, value = (t.float() for t in (query, key, value))
    case = case._replace(dtype=torch.float32)
    options = {"formats": case.formats, "mask": mask, "is_causal": case.is_causal}
    found = fused_attention(query, key, value, **options)
    assert_is_attention(case, found, (query, key, value, mask))


def test_a_row_without_visible_keys_is_zero():
    query, key, value = torch.randn(3, 1, 1, 4, 16).unbind()
    mask = torch.zeros(4, 4, dtype=torch.bool)
    casts = casts_of("mxint8", "mxint8", "mxint8", "mxint8")
    assert attention(query, key, value, mask, casts, 1.0, False).eq(0).all()


def test_a_gradient_flows_through_the_opened_form():
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 2, 6, 16, generator=generator, requires_grad=True) for _ in range(3)]
    formats = ("mxint8",) * 4
    found = torch.autograd.grad(fused_attention(*inputs, formats=formats).sum(), inputs)
    expected = torch.autograd.grad(opened(*inputs, None, formats, 0.25, False).sum(), inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert found[0].abs().sum() > 0


def test_a_gradient_reaches_a_mask_alone():
    generator = torch.Generator().manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 6, 16, generator=generator).unbind()
    mask = torch.zeros(6, 6, requires_grad=True)
    formats = ("mxint8",) * 4
    (found,) = torch.autograd.grad(
        fused_attention(query, key, value, mask=mask, formats=formats).sum(), mask
    )
    result = opened(query, key, value, mask, formats, 0.25, False)
    assert torch.equal(found, *torch.autograd.grad(result.sum(), mask))
    assert found.abs().sum() > 0


def test_opcheck():
    query, key, value = torch.randn(3, 1, 2, 6, 16).unbind()
    args = (query, key, value, None, "mxint8", "", "mxint4", "fp8_e4m3", 0.25, True)
    torch.library.opcheck(torch.ops.quire.attention.default, args)


@pytest.mark.parametrize(
    ("formats", "reason"),
    [
        (("mxint8", "mxint8", None, "mxint8"), "no cast rounds the probabilities"),
        ((None, None, "log(8)", None), "probabilities: log(8): kernels round to fixed point"),
        ((None, None, "int8", None), "probabilities: int8: kernels take scales that are powers"),
        (("bfp(8,size=24)", None, "mxint8", None), "query: bfp(8,scale_bits=8,size=24): kernels"),
        ((None, None, "mxint8", "bfp(8,size=256)"), "a tile of the kernel holds blocks of 128"),
        ((None, "fixed(32,8)", "mxint8", None), "key: fixed(32,8): it is not rounded in float32"),
        ((None, "bf16", "mxint8", None), "key: bf16: kernels take"),
    ],
)
def test_the_predicate_says_why(formats, reason):
    assert reason in casts_of(*formats).problem()


def test_the_predicate_allows_what_the_kernel_takes():
    for case in CASES:
        assert casts_of(*case.formats).problem() is None
    assert problem(torch.device("cpu"), *CASES[0].formats) == (
        "the kernel runs on CUDA devices, not on cpu"
    )


@pytest.mark.parametrize(
    ("formats", "dtype", "expected"),
    [
        (("mxint8",) * 4, torch.float32, ("bfloat16", "bfloat16")),
        ((None, "mxint8", "mxint8", None), torch.float32, ("ieee", "ieee")),
        ((None, None, "mxint10", None), torch.float16, ("tf32", "tf32")),
        ((None, None, "ufixed(8,8)", "mxint12"), torch.bfloat16, ("bfloat16", "tf32")),
    ],
)
def test_products_hold_their_operands_exactly(formats, dtype, expected):
    x = torch.empty(0, dtype=dtype)
    names = [
        "bfloat16" if product.dtype == torch.bfloat16 else product.precision
        for product in products(casts_of(*formats), x, x, x)
    ]
    assert tuple(names) == expected


def test_shapes_that_do_not_go_together_are_refused():
    query, key = torch.randn(1, 3, 4, 16), torch.randn(1, 2, 4, 16)
    with pytest.raises(FormatError, match=r"where g divides h, not \(1, 3, 4, 16\)"):
        fused_attention(query, key, key, formats=("mxint8",) * 4)


def test_tensors_on_several_devices_are_refused():
    query, key = torch.zeros(1, 2, 4, 16), torch.zeros(1, 2, 4, 16, device="meta")
    with pytest.raises(FormatError, match="on one device, not on cpu, meta: move them"):
        fused_attention(query, key, key, formats=("mxint8",) * 4)
