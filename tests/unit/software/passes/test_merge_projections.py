"""Linear layers that share an input become one product where formats allow it, bit for bit."""

import pytest
import torch
from torch import Tensor, nn

import quire
from quire.precision.cast import cast
from quire.software.passes.merge_projections import MERGE_PROJECTIONS

LINEAR = torch.ops.aten.linear.default


class Projections(nn.Module):
    def __init__(self, *, bias: bool = True, heads: bool = False) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(64, 32, bias=bias), nn.Linear(64, 16, bias=bias)
        self.v, self.heads = nn.Linear(64, 16), heads

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        parts = (self.q(x), self.k(x), self.v(x))
        return (
            tuple(p.unflatten(-1, (-1, 8)).transpose(1, 2) for p in parts) if self.heads else parts
        )


def made(**options: bool) -> tuple[torch.fx.GraphModule, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 64)
    return quire.capture(Projections(**options).eval(), (x,)), x


def linears(graph: torch.fx.GraphModule) -> list[tuple[int, ...]]:
    """The shape of the weight of each product."""
    calls = graph.graph.find_nodes(op="call_function", target=LINEAR)
    return [tuple(node.args[1].meta["val"].shape) for node in calls]


def check(q: torch.fx.GraphModule, x: Tensor) -> tuple[str, ...]:
    """Apply the pass; the reasons. A row of a larger product may be summed in another order."""
    with torch.no_grad():
        expected = q(x)
        outcomes = MERGE_PROJECTIONS.apply(q)
        for got, wanted in zip(q(x), expected, strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=2e-6)
            assert got.shape == wanted.shape
    return tuple(outcome.reason for outcome in outcomes)


@pytest.mark.parametrize("heads", [False, True])
@pytest.mark.parametrize("format", [None, "mxint8", "int8", "fixed(8,4)", "int4_g128"])
def test_three_become_one(format: str | None, heads: bool) -> None:
    graph, x = made(heads=heads)
    plan = quire.Plan() if format is None else quire.Plan.uniform(graph, format)
    q = quire.quantize(graph, plan)
    assert check(q, x) == ("one larger product reads the input once",)
    assert linears(q) == [(64, 64)]
    weights = [n for n in q.graph.find_nodes(op="call_function", target=cast) if n.args[2:] == (1,)]
    assert len(weights) == (format is not None and quire.formats.parse(format).is_block)


def test_rows_keep_the_bits_of_their_casts() -> None:
    graph, x = made()
    q = quire.quantize(graph, quire.Plan.uniform(graph, "mxint4"))
    parameters = dict(graph.named_parameters())
    rows = torch.cat([parameters[f"{name}.weight"] for name in "qkv"])
    apart = torch.cat([cast(parameters[f"{name}.weight"], "mxint4", 1) for name in "qkv"])
    assert torch.equal(cast(rows, "mxint4", 1), apart)
    check(q, x)


@pytest.mark.parametrize(
    ("entries", "shapes", "reason"),
    [
        ({"q.weight": "mxint4", "*.weight": "mxint8"}, [(32, 64), (32, 64)], None),
        ({"*.weight": "nvfp4"}, [(32, 64), (16, 64), (16, 64)],
         "nvfp4 has a scale for each weight as a whole"),
        ({"*.weight": 'block(fixed(8,0),size="tensor",scale=fp32)'},
         [(32, 64), (16, 64), (16, 64)], "has a scale for each weight as a whole"),
    ],
)  # fmt: skip
def test_formats_that_do_not_go_together(entries, shapes, reason: str | None) -> None:
    graph, x = made()
    entries = dict(reversed(entries.items()))
    q = quire.quantize(graph, quire.Plan.from_patterns(graph, entries))
    reasons = check(q, x)
    assert sorted(linears(q)) == sorted(shapes)
    assert reason is None or all(reason in text for text in reasons)
    if reason is None:
        alone = "the others at this input differ in format (here mxint4), bias or dtype"
        assert set(reasons) == {alone, "one larger product reads the input once"}


def test_biases_are_all_there_or_none() -> None:
    graph, x = made(bias=False)
    assert len(check(graph, x)) == 2
    assert sorted(linears(graph)) == [(16, 64), (48, 64)]


def test_not_where_gradients_are_wanted() -> None:
    graph, x = made()
    graph.train()
    assert check(graph, x) == ("with gradients the weights would be put together in every step",)
    assert len(linears(graph)) == 3
