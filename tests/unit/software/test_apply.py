"""`quire.apply`: what becomes of each entry of a plan, and the values against `quire.quantize`."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

import quire
from quire import Plan
from quire.errors import PlanError
from quire.formats import parse
from quire.software.apply import apply
from quire.software.mx.linear import MXLinear


class Tied(nn.Module):
    """An embedding, two layers of an MLP, and a head that shares the embedding's weight."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 32)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.norm = nn.LayerNorm(32)
        self.head = nn.Linear(32, 20, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x):
        x = self.embed(x)
        return self.head(self.norm(x + self.mlp(x)))


def model(tied=True):
    torch.manual_seed(0)
    return Tied(tied).eval()


TOKENS = torch.arange(20).view(2, 10)


def graph_of(module):
    return quire.capture(copy.deepcopy(module), (TOKENS,))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("format", ["mxint8", "mxint4", "bfp(8,scale_bits=4,size=16)", "int8"])
@torch.no_grad()
def test_a_uniform_plan_gives_the_values_of_quantize(format, tied):
    live = model(tied)
    graph = graph_of(live)
    plan = Plan.uniform(graph, format)
    expected = quire.quantize(graph, plan)(TOKENS)
    report = apply(live, plan, quiet=True)
    torch.testing.assert_close(live(TOKENS), expected, rtol=1e-5, atol=1e-5)
    assert not report.left
    held = {path for path, module in live.named_modules() if isinstance(module, MXLinear)}
    in_codes = {"mlp.0", "mlp.2"} | (set() if tied else {"head"})
    assert held == set(report.swapped) == (in_codes if format.startswith("mx") else set())
    assert set(report.cast) == {"mlp.0", "mlp.2", "head"} - held


@torch.no_grad()
def test_a_mixed_plan_with_every_kind_of_place():
    live = model()
    graph = graph_of(live)
    plan = Plan.from_patterns(
        graph,
        {
            "*.weight": "mxfp8_e4m3",
            "mlp.0.weight": "fixed(8,6)",
            "mlp.2.weight": "bfp(4,scale_bits=8,size=64)",
            "mlp.*.bias": "fixed(8,6)",
            "mlp.[02].input": "mxint8",
        },
    )
    expected = quire.quantize(graph, plan)(TOKENS)
    report = apply(live, plan, quiet=True)
    torch.testing.assert_close(live(TOKENS), expected, rtol=1e-5, atol=1e-5)
    assert {path: swap.weight.text for path, swap in report.swapped.items()} == {
        "mlp.2": "bfp(4,scale_bits=8,size=64)"
    }
    assert {name: rounding.reason for name, rounding in report.rounded.items()} == {
        "head.weight": "another module shares the tensor",
        "norm.weight": "no weight of a linear layer",
        "mlp.0.weight": "no kernel holds the format in codes",
        "mlp.0.bias": "no weight of a linear layer",
        "mlp.2.bias": "no weight of a linear layer",
    }
    assert live.head.weight is live.embed.weight
    assert {path: entry.text for path, entry in report.cast.items()} == {"mlp.0": "mxint8"}
    assert not report.left


def test_one_format_is_for_the_weights_of_the_linear_layers():
    report = apply(model(), "mxint4", quiet=True)
    assert list(report.swapped) == ["mlp.0", "mlp.2"]
    assert (report.rounded, report.cast) == ({}, {})
    assert report.left == {
        "head.weight": "another module shares the tensor: where the plan names it, it is rounded"
    }
    report = apply(model(tied=False), parse("mxint4"), quiet=True)
    assert list(report.swapped) == ["mlp.0", "mlp.2", "head"]


def test_patterns_the_last_wins_and_fp32_leaves_alone():
    live = model(tied=False)
    report = apply(live, {"mlp.*.weight": "mxint8", "mlp.2.*": "mxint4", "head.*": "fp32"})
    assert {path: swap.weight.text for path, swap in report.swapped.items()} == {
        "mlp.0": "mxint8",
        "mlp.2": "mxint4",
    }
    assert live.mlp[2].input_format == "mxint4"
    assert type(live.head) is nn.Linear


def test_a_plan_of_a_file(tmp_path):
    Plan({"mlp.*.weight": "mxint4"}).save(tmp_path / "plan.json")
    for path in (tmp_path / "plan.json", str(tmp_path / "plan.json")):
        assert list(apply(model(), path, quiet=True).swapped) == ["mlp.0", "mlp.2"]


@torch.no_grad()
def test_tied_inputs_are_spelled_out_by_a_graph():
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(32, 4), nn.Linear(32, 4)

        def forward(self, x):
            return self.a(x) + self.b(x)

    torch.manual_seed(0)
    live, x = Twins(), torch.randn(2, 32)
    graph = quire.capture(copy.deepcopy(live), (x,))
    plan = Plan({"a.weight": "mxint8", "b.weight": "mxint8", "a.input": "mxint4"})
    other = copy.deepcopy(live)
    report = apply(other, plan, quiet=True)
    assert list(report.left) == ["b.input"]
    assert report.left["b.input"].startswith("the plan has no entry: if it is tied")
    assert other.b.input_format is None
    assert not apply(live, plan, graph=graph, quiet=True).left
    torch.testing.assert_close(live(x), quire.quantize(graph, plan)(x))
    assert live.b.input_format == "mxint4"


def test_what_no_module_holds_is_left_and_said(capsys):
    plan = Plan.uniform(graph_of(model()), "fixed(10,6)", scope="all")
    report = apply(model(), plan)
    assert set(report.left) == {
        *("mlp.1.input", "mlp.1.output", "add.input", "add.other"),
        *("norm.input", "norm.output", "output.0"),
    }
    assert set(report.left.values()) == {
        "no tensor of a linear layer: quire.compile(model, plan) applies it"
    }
    said = capsys.readouterr().out
    assert "not applied: mlp.1.input and 6 more (no tensor of a linear layer: quire" in said


def test_the_report_as_text():
    report = apply(model(), {"mlp.*.weight": "mxint8", "head.weight": "mxint8"}, quiet=True)
    assert str(report) == (
        "in codes: mlp.0 and 1 more (mxint8)\n"
        "rounded in place: head.weight (mxint8: another module shares the tensor)"
    )
    assert str(apply(model(), {}, quiet=True)) == "nothing to apply"


def test_conv_and_shared_module():
    torch.manual_seed(0)
    live = nn.Sequential(nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 4))
    weight = live[0].weight.detach().clone()
    report = apply(live, {"0.weight": "mxint4", "2#2.input": "mxint8"}, quiet=True)
    rounded = parse("mxint4").quantize(weight.flatten(1), 1).view_as(weight)
    assert torch.equal(live[0].weight, rounded)
    assert list(report.cast) == ["2"]
    x = torch.randn(2, 12)
    cast = quire.cast(x, "mxint8")
    assert torch.equal(live[2](x), nn.functional.linear(cast, live[2].weight, live[2].bias))


def test_what_keeps_a_weight_out_of_codes():
    live = nn.Sequential(*(nn.Linear(32, 32) for _ in range(3)), nn.Linear(32, 8).double())
    axis, scale = quire.precision.entry.Entry(parse("mxint8"), axis=0), 0.5
    plan = {
        "0.weight": axis,
        "1.weight": quire.precision.entry.Entry(parse("mxint8"), scale=scale),
        "2.weight": "mxint8",
        "3.weight": "mxint8",
    }
    weights = [layer.weight.detach().clone() for layer in live]
    report = apply(live, plan, quiet=True)
    assert [rounding.reason for rounding in report.rounded.values()] == [
        "its axis is not the product's",
        "its scale is static",
        "no kernel takes its dtype",
    ]
    assert torch.equal(live[0].weight, parse("mxint8").quantize(weights[0], 0))
    assert torch.equal(live[1].weight, parse("mxint8").quantize(weights[1], 1, scale=scale))
    assert list(report.swapped) == ["2"]


@torch.no_grad()
def test_state_dict_copies_and_dtypes_of_the_swapped_model(tmp_path):
    live = model()
    apply(live, {"mlp.*.weight": "mxint6", "mlp.*.input": "mxint8"}, quiet=True)
    expected = live(TOKENS)
    fresh = model()
    apply(fresh, {"mlp.*.weight": "mxint6", "mlp.*.input": "mxint8"}, quiet=True)
    buffer = io.BytesIO()
    torch.save(live.state_dict(), buffer)
    buffer.seek(0)
    nn.init.zeros_(fresh.norm.weight)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(fresh(TOKENS), expected)
    assert torch.equal(copy.deepcopy(live)(TOKENS), expected)
    assert fresh.bfloat16()(TOKENS).dtype == torch.bfloat16
    torch.testing.assert_close(fresh(TOKENS).float(), expected, rtol=0.1, atol=0.1)


@torch.no_grad()
def test_the_swapped_model_compiles_whole():
    live = model()
    apply(live, {"mlp.*.weight": "mxint4", "*.input": "mxint8"}, quiet=True)
    compiled = torch.compile(live, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(TOKENS), live(TOKENS))


def test_it_is_sharded_by_fsdp(tmp_path):
    live = model()
    apply(live, "mxint8", quiet=True)
    expected = live(TOKENS)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    try:
        mesh = init_device_mesh("cpu", (1,))
        for module in (live.mlp[0], live.mlp[2], live):
            fully_shard(module, mesh=mesh)
        assert torch.equal(live(TOKENS), expected)
        live(TOKENS).square().mean().backward()
        assert live.mlp[0].bias.grad.to_local().abs().sum() > 0
        assert live.state_dict()["mlp.0.codes"].dtype == torch.uint8
    finally:
        torch.distributed.destroy_process_group()


@torch.no_grad()
def test_llama_of_transformers_compiles_whole():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    live = LlamaForCausalLM(LlamaConfig(vocab_size=64, num_attention_heads=4, **sizes)).eval()
    apply(live, "mxint8", quiet=True)
    compiled = torch.compile(live, fullgraph=True, backend="aot_eager")
    for batch in (2, 3):
        tokens = TOKENS.view(-1)[: 4 * batch].view(batch, 4)
        expected = live(tokens, use_cache=False).logits
        assert torch.equal(compiled(tokens, use_cache=False).logits, expected)


def test_it_trains_what_is_left_in_floating_point():
    live = model()
    apply(live, "mxint8", quiet=True)
    live(TOKENS).square().mean().backward()
    assert live.embed.weight.grad.abs().sum() > 0
    assert live.mlp[0].bias.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"mlp.0.weigth": "mxint8"}, r"no site 'mlp.0.weigth' in this Tied: did you mean 'mlp.0"),
        ({"mpl.0.weight": "mxint8"}, r"no site 'mpl.0.weight' in this Tied: did you mean"),
        ({"*.nothing": "mxint8"}, r"pattern '\*.nothing' matches no tensor of the model's modules"),
        ("mxint", r"plan='mxint' is neither a file nor a format: "),
        (
            {"head.weight": "mxint8", "embed.weight": "mxint4"},
            r"head.weight is mxint8 and embed.weight is mxint4, but they are one tensor",
        ),
        ({"mlp.0.weight": "fixed(32,8)"}, r"mlp.0.weight is float32: fixed\(32,8\) does not fit"),
        (
            {"mlp.0.input": quire.precision.entry.Entry(parse("mxint8"), axis=0)},
            r"mlp.0.input has axis=0; the input of a live layer is cast along its last axis",
        ),
    ],
)
def test_refusals_change_nothing(plan, message):
    live = model()
    before = copy.deepcopy(live.state_dict())
    with pytest.raises(PlanError, match=message):
        apply(live, plan, quiet=True)
    assert all(torch.equal(before[name], value) for name, value in live.state_dict().items())


def test_what_is_no_plan_is_refused():
    with pytest.raises(PlanError, match=r"plan=None is no plan: give a quire\.Plan"):
        apply(nn.Linear(2, 2), None)  # type: ignore[arg-type]
