"""Attention spelt out becomes one call, in every form of scale and mask; what is not it stays."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import quire
from quire.software.passes.fuse_attention import FUSE_ATTENTION

FUSED = torch.ops.aten.scaled_dot_product_attention.default
BATCH, HEADS, TOKENS, WIDTH = 2, 3, 5, 8
INF = float("-inf")


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1)


def per_head(t: Tensor) -> Tensor:
    return t.flatten(0, 1)


def hidden_by_view(q: Tensor, k: Tensor, v: Tensor, m: Tensor) -> Tensor:
    """As OPT and BLOOM had it: heads join the batch, and part from it to be masked."""
    q, k, v = map(per_head, (q, k, v))
    s = torch.bmm(q, k.transpose(1, 2)).view(-1, HEADS, TOKENS, TOKENS)
    s = (s + m.float().log()[:, None, None]).view(-1, TOKENS, TOKENS)
    return torch.bmm(s.softmax(-1), v).view(-1, HEADS, TOKENS, WIDTH)


def lower(q: Tensor) -> Tensor:
    return torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).tril()


Form = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
# m is (batch, tokens), true where a key is visible.
FORMS: dict[str, Form] = {
    "no scale": lambda q, k, v, m: scores(q, k).softmax(-1) @ v,
    "scale after": lambda q, k, v, m: (scores(q, k) * 0.3).softmax(-1) @ v,
    "quotient": lambda q, k, v, m: (scores(q, k) / 8**0.5).softmax(-1) @ v,
    "scale before": lambda q, k, v, m: scores(q * 0.3, k * 0.5).softmax(-1) @ v,
    "two scales": lambda q, k, v, m: (scores(q, k) * 3 / 8).softmax(-1) @ v,
    "transposed by permute": lambda q, k, v, m: (q @ k.permute(0, 1, 3, 2)).softmax(-1) @ v,
    "added mask": lambda q, k, v, m: (
        (scores(q, k) + torch.where(m, 0.0, -1e9)[:, None, None]).softmax(-1) @ v
    ),
    "mask before scale": lambda q, k, v, m: (
        ((scores(q, k) + torch.where(m, 0.5, -1e9)[:, None, None]) / 3).softmax(-1) @ v
    ),
    "masked_fill": lambda q, k, v, m: (
        scores(q, k).masked_fill(~m[:, None, None], INF).softmax(-1) @ v
    ),
    "where, lowest number": lambda q, k, v, m: (
        torch.where(m[:, None, None], scores(q, k), torch.finfo(q.dtype).min).softmax(-1) @ v
    ),
    "where, a tensor": lambda q, k, v, m: (
        torch.where(~m[:, None, None], torch.tensor(INF), scores(q, k)).softmax(-1) @ v
    ),
    "causal": lambda q, k, v, m: scores(q, k).masked_fill(~lower(q), INF).softmax(-1) @ v,
    "causal and hidden": lambda q, k, v, m: (
        (scores(q, k).masked_fill(~lower(q), INF) * 0.5)
        .masked_fill(~m[:, None, None], -1e4)
        .softmax(-1)
        @ v
    ),
    "float32 softmax": lambda q, k, v, m: (
        (scores(q, k) * 0.3).softmax(-1, dtype=torch.float32).to(q.dtype) @ v
    ),
    "three axes": lambda q, k, v, m: (scores(q[:, 0], k[:, 1]) * 0.3).softmax(-1) @ v[:, 2],
    "heads in the batch": hidden_by_view,
    "fused": lambda q, k, v, m: nn.functional.scaled_dot_product_attention(
        q, k, v, m[:, None, None], scale=0.7
    ),
    "fused, causal": lambda q, k, v, m: nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=True
    ),
}
ODD: dict[str, tuple[Form, str]] = {
    "other axis": (lambda q, k, v, m: scores(q, k).softmax(-2) @ v, "runs along axis -2"),
    "fill hides none": (
        lambda q, k, v, m: scores(q, k).masked_fill(~m[:, None, None], -5.0).softmax(-1) @ v,
        "-5, which hides none",
    ),
    "negative scale": (
        lambda q, k, v, m: (scores(q, k) * -0.3).softmax(-1) @ v,
        "the scale -0.3 is not positive",
    ),
    "scale by a tensor": (
        lambda q, k, v, m: (scores(q, k) * m.sum()).softmax(-1) @ v,
        "scales by a tensor",
    ),
    "capped": (lambda q, k, v, m: scores(q, k).tanh().softmax(-1) @ v, "tanh"),
    "mask of scores": (
        lambda q, k, v, m: (s := scores(q, k)).add(s.sign()).softmax(-1) @ v,
        "depends on the scores",
    ),
    "shared probabilities": (
        lambda q, k, v, m: (p := scores(q, k).softmax(-1)) @ v + p.sum(),
        "the probabilities are used elsewhere too",
    ),
    "shared scores": (
        lambda q, k, v, m: (s := scores(q, k)).softmax(-1) @ v + s.sum(),
        "are used elsewhere too",
    ),
    "broadcast heads": (
        lambda q, k, v, m: scores(q, k[:, :1]).softmax(-1) @ v,
        "leading axes differ",
    ),
    "rows that see nothing": (
        lambda q, k, v, m: scores(q, k).masked_fill(m[:, None, None] | ~m[:, None, None], INF)
        .softmax(-1) @ v,
        "gives other values on the example inputs",
    ),
}  # fmt: skip


class Attention(nn.Module):
    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return self.form(q, k, v, mask)


def inputs(batch: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    torch.manual_seed(batch)
    shape = (batch, HEADS, TOKENS, WIDTH)
    q, k, v = (torch.randn(shape).to(torch.bfloat16).to(dtype) for _ in range(3))
    mask = torch.rand(batch, TOKENS) < 0.7
    mask[:, 0] = True
    return q, k, v, mask


def captured(form: Form, dtype: torch.dtype = torch.float32) -> torch.fx.GraphModule:
    return quire.capture(Attention(form), inputs(BATCH, dtype))


def fused_calls(graph: torch.fx.GraphModule) -> list[torch.fx.Node]:
    return graph.graph.find_nodes(op="call_function", target=FUSED)


@pytest.mark.parametrize("name", FORMS)
def test_every_form_becomes_one_call(name: str) -> None:
    graph = captured(FORMS[name])
    (outcome,) = FUSE_ATTENTION.apply(graph, inputs(BATCH))
    assert outcome.kept, outcome
    assert len(fused_calls(graph)) == 1
    for batch in (1, 4):
        expected = FORMS[name](*inputs(batch, torch.float64))
        torch.testing.assert_close(graph(*inputs(batch)), expected.float(), rtol=2e-6, atol=2e-6)
    left = {str(node.target) for node in graph.graph.nodes if "softmax" in str(node.target)}
    assert left == set()


CAUSAL: dict[str, Form] = {
    "lower": FORMS["causal"],
    "visible": lambda q, k, v, m: (
        torch.where(q.new_ones(TOKENS, TOKENS).tril() == 1, scores(q, k), -1e5).softmax(-1) @ v
    ),
    "positions": lambda q, k, v, m: (
        (scores(q, k) * 0.3)
        .masked_fill(torch.arange(TOKENS)[:, None] < torch.arange(TOKENS), INF)
        .softmax(-1)
        @ v
    ),
    "added": lambda q, k, v, m: (
        (scores(q, k) + torch.full((TOKENS, TOKENS), -1e9).triu(1)).softmax(-1) @ v
    ),
}
NOT_CAUSAL: dict[str, Form] = {
    "band": lambda q, k, v, m: (
        scores(q, k).masked_fill(~lower(q).triu(-2), INF).softmax(-1) @ v
    ),
    "earlier": lambda q, k, v, m: scores(q, k).masked_fill(~lower(q).T, INF).softmax(-1) @ v,
    "biased": lambda q, k, v, m: (
        (scores(q, k) + torch.full((TOKENS, TOKENS), -1e9).triu(1) + 0.1 * torch.eye(TOKENS))
        .softmax(-1) @ v
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*CAUSAL, *NOT_CAUSAL])
def test_a_constant_causal_mask_is_the_kernels_own(name: str) -> None:
    form = {**CAUSAL, **NOT_CAUSAL}[name]
    graph = captured(form)
    (outcome,) = FUSE_ATTENTION.apply(graph, inputs(BATCH))
    assert outcome.kept, outcome
    (call,) = fused_calls(graph)
    _, _, _, mask, _, is_causal = call.args
    assert (mask is None) == is_causal == (name in CAUSAL)
    expected = form(*(x.double() if x.is_floating_point() else x for x in inputs(3)))
    torch.testing.assert_close(graph(*inputs(3)), expected.float(), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", ODD)
def test_what_is_not_attention_stays(name: str) -> None:
    form, reason = ODD[name]
    graph = captured(form)
    expected = graph(*inputs(3))
    (outcome,) = FUSE_ATTENTION.apply(graph, inputs(BATCH))
    assert not outcome.kept
    assert reason in outcome.reason
    assert not fused_calls(graph)
    torch.testing.assert_close(graph(*inputs(3)), expected, rtol=0, atol=0, equal_nan=True)


def test_bf16_models_are_compared_in_float64() -> None:
    graph = captured(FORMS["float32 softmax"], torch.bfloat16)
    (outcome,) = FUSE_ATTENTION.apply(graph, inputs(BATCH, torch.bfloat16))
    assert outcome.kept
    exact = FORMS["scale after"](*inputs(4, torch.float64))
    given = inputs(4, torch.bfloat16)
    torch.testing.assert_close(graph(*given).double(), exact, rtol=0.02, atol=0.02)


def test_without_examples_nothing_is_kept() -> None:
    graph = captured(FORMS["causal"])
    (outcome,) = FUSE_ATTENTION.apply(graph)
    assert outcome.reason == "cannot be verified without example inputs"
    assert not fused_calls(graph)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.drop((scores(q, k) * 0.5).softmax(-1)) @ v


def test_dropout_is_fused_only_where_it_does_nothing() -> None:
    given = inputs(BATCH)[:3]
    graph = quire.capture(Layer().eval(), given)
    graph.train()
    (outcome,) = FUSE_ATTENTION.apply(graph, given)
    assert outcome.reason == "a fused dropout of 0.5 draws other numbers in training"
    graph.eval()
    expected = graph(*given)
    (outcome,) = FUSE_ATTENTION.apply(graph, given)
    assert outcome.kept
    torch.testing.assert_close(graph(*given), expected)


@pytest.mark.parametrize(
    ("site", "reason"),
    [
        ("pv.probs", "a cast to mxint8 rounds the probabilities"),
        ("softmax.input", "a cast to fixed(8,4) rounds them"),
        ("scale.input", "a cast to mxint8 rounds them"),
        ("qk.query", None),
        ("qk.key", None),
        ("pv.value", None),
    ],
)
def test_formats_at_the_edges_fuse_and_formats_inside_do_not(site: str, reason: str | None) -> None:
    graph = captured(FORMS["scale after"])
    name = next(name for name in quire.sites(graph) if name.endswith(site))
    plan = quire.Plan({name: "fixed(8,4)" if site == "softmax.input" else "mxint8"})
    q = quire.quantize(graph, plan)
    expected = q(*inputs(4))
    (outcome,) = FUSE_ATTENTION.apply(q, inputs(BATCH))
    assert outcome.kept == (reason is None)
    assert outcome.kept or reason in outcome.reason
    torch.testing.assert_close(q(*inputs(4)), expected, rtol=1e-5, atol=1e-6)
