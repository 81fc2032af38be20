"""Attention whose probabilities are cast: where it becomes one call, and where it is left open."""

import copy

import pytest
import torch
import transformers
from torch import nn

import quire
from quire.graph.rewrite import find
from quire.ops.matmul import MATMUL
from quire.software.attention import casts_of, fused_attention
from quire.software.passes import fused_quantized_attention
from quire.software.passes.base import GRADIENTS
from quire.software.passes.fused_quantized_attention import FUSE_QUANTIZED_ATTENTION

torch.manual_seed(0)
X = torch.randn(2, 40, 32)
VISIBLE = torch.rand(40, 40) > 0.3
ADDED = torch.randn(2, 1, 40, 40)


class Fused(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))
        self.options = options

    def forward(self, x, mask=None):
        q, k, v = (f(x).unflatten(-1, (2, 16)).transpose(1, 2) for f in (self.q, self.k, self.v))
        options = dict(self.options)
        if self.options.get("enable_gqa"):
            k, v = k[:, :1], v[:, :1]
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)
        return y.transpose(1, 2).flatten(-2)


class Spelt(Fused):
    """Three axes, a division, and a plain softmax."""

    def forward(self, x, mask=None):
        scores = self.q(x) @ self.k(x).transpose(-2, -1) / 4.0
        return torch.softmax(scores, -1) @ self.v(x)


CASES = {
    "plain": (Fused(), (X,)),
    "causal": (Fused(is_causal=True), (X,)),
    "added mask": (Fused(scale=0.5), (X, ADDED)),
    "boolean mask": (Fused(), (X, VISIBLE)),
    "shared keys": (Fused(enable_gqa=True), (X,)),
    "spelt out": (Spelt(), (X,)),
}


@pytest.fixture
def anywhere(monkeypatch):
    """The predicate without its question for the device."""

    def problem(device, *formats):
        return casts_of(*formats).problem()

    monkeypatch.setattr(fused_quantized_attention, "problem", problem)


def quantized(model, inputs, **formats):
    graph = quire.capture(copy.deepcopy(model).eval(), inputs)
    plan = quire.Plan.uniform(graph, "mxint8")
    for name in list(plan):
        plan[name] = next((f for part, f in formats.items() if part in name), plan[name])
    return quire.quantize(graph, plan)


@pytest.mark.parametrize("name", CASES)
def test_it_becomes_one_call_with_the_same_values(name, anywhere):
    model, inputs = CASES[name]
    expected = quantized(model, inputs).double()(*(widened(t) for t in inputs))
    graph = quantized(model, inputs)
    (outcome,) = FUSE_QUANTIZED_ATTENTION.apply(graph, inputs)
    assert outcome.kept, outcome
    (call,) = find(graph, fused_attention)
    assert call.kwargs["formats"] == ("mxint8",) * 4
    assert not find(graph, *MATMUL.targets)
    found = graph.double()(*(widened(t) for t in inputs))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def widened(t):
    return t.double() if t.is_floating_point() else t


def test_casts_that_the_kernel_cannot_do_stay_before_the_call(anywhere):
    graph = quantized(*CASES["plain"], **{"query": "int8", "key": "fixed(8,4)"})
    (outcome,) = FUSE_QUANTIZED_ATTENTION.apply(graph, (X,))
    assert outcome.kept, outcome
    (call,) = find(graph, fused_attention)
    assert call.kwargs["formats"] == (None, "fixed(8,4)", "mxint8", "mxint8")
    assert call.args[0].args[1] == "int8"


@pytest.mark.parametrize(
    ("formats", "reason"),
    [
        (
            {"probs": "nf4"},
            "probabilities: nf4: kernels take scales that are powers of two",
        ),
        ({"probs": "log(8)"}, "probabilities: log(8): kernels round to fixed point"),
    ],
)
def test_it_is_left_open_with_a_reason(formats, reason, anywhere):
    graph = quantized(*CASES["plain"], **formats)
    before = str(graph.graph)
    (outcome,) = FUSE_QUANTIZED_ATTENTION.apply(graph, (X,))
    assert not outcome.kept
    assert outcome.reason.startswith(reason)
    assert str(graph.graph) == before


def test_it_finds_the_attention_of_a_llama(anywhere):
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        use_cache=False,
    )
    tokens = torch.randint(0, 32, (2, 12))
    visible = torch.ones_like(tokens)
    visible[1, 9:] = 0
    inputs = {"input_ids": tokens, "attention_mask": visible}
    model = transformers.LlamaForCausalLM(config)
    graph = quantized(model, inputs)
    expected = graph(**inputs)[0]
    (outcome,) = FUSE_QUANTIZED_ATTENTION.apply(graph, tuple(inputs.values()))
    assert outcome.kept, outcome
    (call,) = find(graph, fused_attention)
    assert call.kwargs["mask"] is not None
    with torch.no_grad():
        torch.testing.assert_close(graph(**inputs)[0], expected, rtol=0, atol=1e-4)


def test_where_gradients_are_wanted_it_is_left_open(anywhere):
    graph = quantized(*CASES["plain"])
    graph.meta[GRADIENTS] = True
    (outcome,) = FUSE_QUANTIZED_ATTENTION.apply(graph, (X,))
    assert outcome.reason == "the kernel has no gradient"


def test_on_a_cpu_it_is_left_open():
    (outcome,) = FUSE_QUANTIZED_ATTENTION.apply(quantized(*CASES["plain"]), (X,))
    assert outcome.reason == "the kernel runs on CUDA devices, not on cpu"


def test_without_examples_it_is_not_kept(anywhere):
    (outcome,) = FUSE_QUANTIZED_ATTENTION.apply(quantized(*CASES["plain"]))
    assert outcome.reason == "cannot be verified without example inputs"


def test_it_compiles_whole_for_every_batch_size(anywhere):
    model, inputs = CASES["causal"]
    compiled = quire.compile(model.eval(), "mxint8", example_inputs=inputs, compiler="aot_eager")
    graph = quantized(model, inputs)
    with torch.no_grad():
        for x in (X, torch.randn(5, 40, 32)):
            torch.testing.assert_close(compiled(x), graph(x), rtol=0, atol=1e-3)
    (program,) = compiled.programs()
    assert len(compiled.report.kept("fuse_quantized_attention")) == 1
    assert find(program.graph, fused_attention)
