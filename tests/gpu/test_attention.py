"""Attention with casts inside, in one kernel on a CUDA device, against float64."""

import copy

import pytest
import torch
from tests.unit.software.passes.test_fused_quantized_attention import CASES as MODELS
from tests.unit.software.passes.test_fused_quantized_attention import quantized
from tests.unit.software.triton.attention_cases import (
    CASES,
    MXINT8,
    Case,
    assert_is_attention,
    operands,
)

import quire
from quire.software.attention import fused_attention, problem

pytest.importorskip("triton")
CUDA = torch.device("cuda")
LARGE = [
    Case((2, 4, 4, 512, 512, 64, 64), MXINT8, torch.bfloat16, is_causal=True),
    Case((1, 4, 2, 300, 1000, 128, 128), MXINT8, torch.bfloat16, "added"),
    Case((1, 2, 2, 200, 200, 80, 80), MXINT8, torch.float16),
    Case((1, 2, 2, 100, 300, 64, 64), ("mxint8", None, "mxint8", None), torch.float32),
    Case((2, 8, 2, 1, 777, 128, 128), ("mxint6", "mxint6", "mxint8", "mxint4"), torch.bfloat16),
    Case((1, 2, 2, 130, 130, 128, 64), ("bfp(8,size=128)",) * 4, torch.bfloat16),
    Case((1, 2, 2, 130, 130, 32, 32), ("mxfp8_e4m3",) * 4, torch.bfloat16, "boolean"),
    Case((2, 2, 1, 40, 75, 20, 24), MXINT8, torch.bfloat16),
    Case((1, 2, 2, 64, 300, 128, 128), MXINT8, torch.bfloat16, is_causal=True),
    Case((1, 2, 2, 33, 130, 64, 64), ("mxint6", "mxint6", "mxint8", "mxint4"), torch.float16),
]
ALL = CASES + LARGE


def on_device(case: Case, seed: int) -> tuple:
    return tuple(None if t is None else t.to(CUDA) for t in operands(case, seed))


@pytest.mark.parametrize("case", ALL, ids=[f"case{i}" for i in range(len(ALL))])
def test_the_kernel_is_attention(case, poisoned):
    assert problem(CUDA, *case.formats) is None
    seed = int(torch.seed() % 2**31)
    print(f"seed {seed}")
    query, key, value, mask = given = on_device(case, seed)
    options = {"formats": case.formats, "mask": mask, "is_causal": case.is_causal}
    (found,) = poisoned(fused_attention, query, key, value, **options)
    assert_is_attention(case, found, given)


def test_no_tensor_of_the_size_of_the_scores_is_made():
    tokens = 8192
    query, key, value = torch.randn(3, 1, 4, tokens, 64, device=CUDA, dtype=torch.bfloat16)
    fused_attention(query, key, value, formats=MXINT8)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    fused_attention(query, key, value, formats=MXINT8)
    extra = torch.cuda.max_memory_allocated() - before
    # The result, and keys and values after their casts.
    assert extra <= 3.5 * query.numel() * query.element_size()


def test_a_transposed_mask_may_reach_beyond_2_31_bytes():
    case = Case((1, 1, 1, 16, 70_000, 16, 16), MXINT8)
    query, key, value, _ = on_device(case, 0)
    stored = torch.rand(70_000, 32_768, device=CUDA) > 0.4
    mask = stored[:, :16].T[None, None]  # its columns lie 32,768 bytes apart
    found = fused_attention(query, key, value, formats=MXINT8, mask=mask)
    assert_is_attention(case, found, (query, key, value, mask))


def test_compiled_whole_it_gives_the_same_bits():
    query, key, value, _ = on_device(LARGE[0], 3)

    def attend(query, key, value):
        return fused_attention(query, key, value, formats=MXINT8, is_causal=True) * 2

    torch.compiler.reset()
    compiled = torch.compile(attend, fullgraph=True)
    assert torch.equal(compiled(query, key, value), attend(query, key, value))


def test_compile_puts_the_kernel_into_a_model():
    torch.compiler.reset()
    model, (x,) = MODELS["causal"]
    model, x = copy.deepcopy(model).eval().to(CUDA), x.to(CUDA)
    graph = quantized(model, (x,))
    compiled = quire.compile(model, "mxint8", example_inputs=(x,))
    with torch.no_grad():
        found, expected = compiled(x), graph(x)
    assert len(compiled.report.kept("fuse_quantized_attention")) == 1
    # Codes of probabilities may differ by one at a boundary.
    assert float((found - expected).abs().max()) <= 2.0**-6 * float(expected.abs().max())
    assert float((found - expected).abs().mean()) <= 2.0**-10 * float(expected.abs().mean())
