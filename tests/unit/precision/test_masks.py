"""Masked attention under casts of its scores: the fast executor, switchable graphs, and exact."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule

import quire
from quire import Plan
from quire.ops.mask import keep_masked
from quire.precision import Switchable, fit_fixed, observe

LOWEST = torch.finfo(torch.float32).min


class Attention(nn.Module):
    """Attention with a mask: fused, or spelt out with `fill` where the mask hides."""

    def __init__(self, fused: bool = True, causal: bool = False, fill: float = -math.inf) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.fused, self.causal, self.fill = fused, causal, fill

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=self.causal)
            return y.transpose(1, 2).flatten(2)
        scores = q @ k.transpose(-2, -1) / 2
        if mask is not None and mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, self.fill)
        elif mask is not None:
            scores = scores + mask
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def visible(tokens: int = 6) -> Tensor:
    """(2, 1, tokens, tokens): padding hides keys, and one row of the second example hides all."""
    mask = torch.ones(2, 1, tokens, tokens, dtype=torch.bool)
    mask[0, ..., 4:] = False
    mask[1, :, 2] = False
    return mask


def additive(lowest: float) -> Tensor:
    return torch.where(visible(), 0.0, lowest)


CASES: dict[str, tuple[dict[str, Any], Tensor | None]] = {
    "causal": ({"causal": True}, None),
    "boolean": ({}, visible()),
    "additive": ({}, additive(-math.inf)),
    "lowest number added": ({}, additive(LOWEST)),
    "filled": ({"fused": False}, visible()),
    "filled with -1e9": ({"fused": False, "fill": -1e9}, visible()),
    "-1e4 added": ({"fused": False}, additive(-1e4)),
}


def build(name: str) -> tuple[GraphModule, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    options, mask = CASES[name]
    inputs = (torch.randn(2, 6, 8) * 4, *([] if mask is None else [mask]))
    return quire.capture(Attention(**options).eval(), inputs), inputs


def nodes(q: GraphModule, target: object) -> list[torch.fx.Node]:
    return [node for node in q.graph.nodes if node.target is target]


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_masked_scores_have_no_weight(name: str) -> None:
    """Against the softmax by hand of the rounded scores of what is visible."""
    graph, inputs = build(name)
    q = quire.quantize(graph, Plan({"softmax.input": "fixed(8,4)"}))
    (kept,) = nodes(q, keep_masked)
    found: dict[str, Tensor] = {}

    class Keep(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            found[n.name] = super().run_node(n)
            return found[n.name]

    result = Keep(q).run(*inputs)
    hidden = ~torch.ones(6, 6).tril().bool() if name == "causal" else ~visible()
    scores = found[kept.args[0].name].double()
    weights = scores.exp().masked_fill(hidden, 0)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
    (softmax,) = kept.users
    torch.testing.assert_close(found[softmax.name].double(), weights, rtol=1e-6, atol=1e-7)
    assert (found[softmax.name][hidden.expand_as(scores)] == 0).all()
    judged = quire.exact(q)(*inputs)
    torch.testing.assert_close(result, judged, rtol=1e-4, atol=1e-4)
    switchable = Switchable(graph)
    assert torch.equal(switchable.use(Plan({"softmax.input": "fixed(8,4)"}))(*inputs), result)
    torch.testing.assert_close(
        switchable.use(Plan())(*inputs), graph(*inputs), rtol=0, atol=0, equal_nan=True
    )


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_a_plan_for_all_sites(name: str) -> None:
    graph, inputs = build(name)
    known = quire.sites(graph)
    plan = Plan.uniform(graph, "fixed(10,5)", "all")
    masks = {site.name for site in known.values() if site.role == "mask"}
    assert masks == ({"input.mask"} if "add" in name else set())
    assert plan.keys() == known.keys() - masks - {"softmax.table"}
    q = quire.quantize(graph, plan)
    fast, judged = q(*inputs), quire.exact(q)(*inputs)
    assert ((fast - judged).abs() <= 2**-4).all()  # two codes of the output
    assert (fast == judged).float().mean() > 0.9
    seen = torch.ones(2, 6, dtype=torch.bool)
    seen[1, 2] = name == "causal"  # softmax in floats has NaN or equal weights where all is masked
    assert (fast - graph(*inputs))[seen].abs().mean() < 0.25
    if name != "causal":
        rows = judged[1, 2]
        assert torch.equal(rows, torch.zeros(8))
        assert torch.equal(fast[1, 2], rows)
    assert torch.equal(Switchable(graph).use(plan)(*inputs), fast)


def test_infinities_stay_in_formats_that_have_them() -> None:
    graph, inputs = build("additive")
    assert "input.mask" in Plan.uniform(graph, "bf16", "all")
    assert "input.mask" not in Plan.uniform(graph, "fp8_e4m3", "all")
    assert "input.mask" not in Plan.from_patterns(graph, {"*": "mxint8"})
    assert "input.mask" in Plan.from_patterns(graph, {"input.mask": "ufixed(1,0)"})
    with torch.no_grad():
        assert quire.quantize(graph, Plan.uniform(graph, "bf16", "all"))(*inputs).isfinite().all()


def test_a_mask_of_zeros_and_ones_is_an_index() -> None:
    """Its way to the scores is no place for formats; learned biases and data are none of it."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = Attention()
            self.bias = nn.Linear(3, 6)

        def forward(self, x: Tensor, mask: Tensor, pairs: Tensor) -> Tensor:
            bias = (1 - mask) * LOWEST + self.bias(pairs).unsqueeze(1)
            return self.attention(x, bias) + x.sum()

    torch.manual_seed(0)
    inputs = (torch.randn(2, 6, 8), visible().float(), torch.randn(2, 6, 3))
    roles = {name: s.role for name, s in quire.sites(quire.capture(Model(), inputs)).items()}
    assert {n: r for n, r in roles.items() if n.startswith("input.")} == {
        "input.x": "input",
        "input.mask": "mask",
        "input.pairs": "input",
    }
    assert not [name for name in roles if name.startswith(("rsub", "mul"))]
    assert {n for n in roles if n.startswith(("bias", "add"))} == {
        *(f"bias.{part}" for part in ("input", "weight", "bias")),
        *("add.other", "add_1.input", "add_1.other"),
    }


def test_unmasked_scores_are_cast_alone() -> None:
    torch.manual_seed(0)
    graph = quire.capture(Attention(), (torch.randn(2, 6, 8),))
    q = quire.quantize(graph, Plan.uniform(graph, "fixed(10,5)", "all"))
    assert nodes(q, keep_masked) == []


def test_a_wide_format_keeps_low_scores() -> None:
    x = torch.tensor([[-5000.0, -4900.0, -math.inf]])
    graph = quire.capture(nn.Softmax(-1), (x,))
    q = quire.quantize(graph, Plan({"softmax.input": "fixed(10,-6)"}))
    expected = torch.tensor([[math.exp(-128), 1.0, 0.0]])
    torch.testing.assert_close(q(x), expected)
    torch.testing.assert_close(quire.exact(q)(x), expected)


def test_gradients_are_finite_beside_masked_rows() -> None:
    graph, inputs = build("additive")
    q = quire.quantize(graph, Plan.uniform(graph, "fixed(10,5)", "all"))
    q(*inputs).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in q.parameters())


def test_calibration_leaves_masked_scores_out() -> None:
    graph, inputs = build("lowest number added")
    (scores,) = observe(graph, inputs, ["softmax.input"]).values()
    assert -100 < scores.min() < scores.max() < 100
    (entry,) = fit_fixed(graph, inputs, 8, ["softmax.input"]).values()
    largest = float(scores.abs().max())
    assert largest / 4 < entry.format.highest < 4 * largest


def transformer(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    ids = torch.randint(3, 60, (2, 7))
    attention = torch.ones(2, 7, dtype=torch.int64)
    attention[1, 4:] = 0
    kind, _, implementation = name.partition(" ")
    if kind == "gpt2":
        config = transformers.GPT2Config(
            n_embd=16, n_layer=1, n_head=2, vocab_size=60, use_cache=False, bos_token_id=0,
            eos_token_id=1, attn_implementation=implementation, initializer_range=0.2,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
            vocab_size=60, attn_implementation=implementation, initializer_range=0.2,
        )  # fmt: skip
        model = transformers.BertForSequenceClassification(config)
    return model.eval(), {"input_ids": ids, "attention_mask": attention}


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2 sdpa", "gpt2 eager", "bert sdpa", "bert eager"])
def test_padded_and_causal_transformers(name: str) -> None:
    """What padding hides changes no visible result, in the fast executor and in exact."""
    model, inputs = transformer(name)
    graph = quire.capture(model, inputs)
    plan = Plan.uniform(graph, "fixed(10,6)", "all")
    plan = Plan({n: e for n, e in plan.items() if not n.startswith("output.")})
    q = quire.quantize(graph, plan)
    assert nodes(q, keep_masked)
    judge = quire.exact(q)
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][1, 4:] = 59
    seen = (slice(None),) if "bert" in name else (inputs["attention_mask"].bool(),)
    for run in (q, judge):
        assert torch.equal(run(**inputs)["logits"][seen], run(**changed)["logits"][seen])
    fast, judged = q(**inputs)["logits"], judge(**inputs)["logits"]
    assert (fast - judged).abs().mean() < 0.05 * judged.abs().mean()
    assert torch.equal(Switchable(graph).use(plan)(**inputs)["logits"], fast)
