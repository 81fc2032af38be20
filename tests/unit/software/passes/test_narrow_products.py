"""Products run on bf16 operands exactly where bf16 holds both, and give the same numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import quire
from quire.formats import parse
from quire.software.passes.narrow_products import (
    NARROW_PRODUCTS,
    fits_bf16,
    linear_in_bf16,
    narrow_products,
    to_bf16,
)

ANYWHERE = narrow_products(("cpu", "cuda"))
FITTING = [
    *("mxint8", "mxint6", "mxint4", "mxint2", "mxfp4", "bfp(8)", "bl(4)", "bm(e=2,m=1)"),
    *("fixed(8,4)", "log(8)", "bf16", "fp8_e4m3", "minifloat(e=5,m=2)"),
]
OTHERS = {
    "bfp(12)": "bfp(12,scale_bits=8,size=16) has 11 significant bits, bf16 has 8",
    "fixed(12,4)": "fixed(12,4) has 11 significant bits, bf16 has 8",
    "fp16": "fp16 has 11 significant bits, bf16 has 8",
    "fp32": "fp32 has 24 significant bits, bf16 has 8",
    "int8": "values of int8 are products with its scales, which are rounded",
    "nvfp4": "values of nvfp4 are products with its scales, which are rounded",
    "mxfp8_e4m3": "mxfp8_e4m3 reaches beyond the range of bf16 (2^-133 to 2^127)",
}


@pytest.mark.parametrize("name", FITTING)
def test_bf16_holds_every_value(name: str) -> None:
    """From the smallest subnormals to the largest numbers of float32."""
    format = parse(name)
    assert fits_bf16(format) is None
    x = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    for exponent in (-149, -133, -126, -60, -4, 0, 5, 60, 124):
        value = format.quantize(torch.ldexp(x, torch.tensor(exponent)))
        assert torch.equal(to_bf16(value).float(), value), exponent


@pytest.mark.parametrize("name", OTHERS)
def test_formats_that_bf16_does_not_hold(name: str) -> None:
    assert fits_bf16(parse(name)) == OTHERS[name]


def mlp(plan: dict[str, str]) -> tuple[torch.fx.GraphModule, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 8)).eval()
    x = torch.randn(5, 64)
    graph = quire.capture(model, (x,))
    return quire.quantize(graph, quire.Plan.from_patterns(graph, plan)), x


def test_the_sum_is_that_of_exact_products() -> None:
    q, x = mlp({"*.weight": "mxint4", "0.input": "mxint8", "2.input": "mxint8"})
    with torch.no_grad():
        expected = q(x)
        assert [o.kept for o in ANYWHERE.apply(q, (x,))] == [True, True]
        assert torch.equal(q(x), expected)
    assert len(q.graph.find_nodes(op="call_function", target=linear_in_bf16)) == 2


def test_layers_of_which_one_operand_does_not_fit() -> None:
    q, x = mlp({"0.weight": "mxint4", "0.input": "fp16", "2.weight": "mxint4"})
    (outcome,) = ANYWHERE.apply(q, (x,))
    assert outcome.reason == OTHERS["fp16"]
    assert not q.graph.find_nodes(op="call_function", target=linear_in_bf16)


def test_it_is_for_gpus_unless_asked_and_for_inference() -> None:
    q, x = mlp({"0.weight": "mxint4", "0.input": "mxint4"})
    (outcome,) = NARROW_PRODUCTS.apply(q, (x,))
    assert outcome.reason == "bf16 products are asked for on cuda, not on cpu"
    q.train()
    (outcome,) = ANYWHERE.apply(q, (x,))
    assert outcome.reason == "the gradients need products of their own"


def test_a_wrong_claim_about_a_format_is_caught() -> None:
    """The values are compared too: here with weights that were said to be mxint4 and are not."""
    q, x = mlp({"0.weight": "mxint4", "0.input": "mxint4"})
    (call,) = [n for n in q.graph.nodes if n.target is torch.ops.aten.linear.default][:1]
    match = next(iter(ANYWHERE.pattern(q)))
    call.args = (call.args[0], call.args[1].args[0], *call.args[2:])
    (outcome,) = replace(ANYWHERE, pattern=lambda graph: [match]).apply(q, (x,))
    assert not outcome.kept
    assert "gives other values on the example inputs" in outcome.reason
