"""Layers with MX weights read codes and scales, with the values of the cast weight."""

import pytest
import torch
from torch import nn

import quire
from quire.software.passes.merge_projections import MERGE_PROJECTIONS
from quire.software.passes.pack_weights import PACK_WEIGHTS, pack_weights
from quire.software.static import hold_static

ANYWHERE = pack_weights(("cpu",))
MX_LINEAR = torch.ops.quire.mx_linear.default


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(64, 32), nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.q(x), self.k(x)


def made(dtype: torch.dtype, plan: dict[str, str]) -> tuple[torch.fx.GraphModule, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(3, 64).to(dtype)
    graph = quire.capture(Heads().to(dtype).eval(), (x,))
    return quire.quantize(graph, quire.Plan.from_patterns(graph, plan)), x


@pytest.mark.parametrize(
    "format", ["mxint8", "mxint4", "mxfp8_e4m3", "bfp(6,scale_bits=8,size=16)"]
)
@torch.no_grad()
def test_packed_layers_give_the_numbers_of_the_cast_weight(format: str) -> None:
    q, x = made(torch.bfloat16, {"*.weight": format, "q.input": "mxint8"})
    exact = [y.double() for y in q.double()(x.double())]
    q, x = made(torch.bfloat16, {"*.weight": format, "q.input": "mxint8"})
    assert [outcome.kept for outcome in ANYWHERE.apply(q)] == [True, True]
    for got, wanted in zip(q(x), exact, strict=True):
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), wanted, rtol=2**-8, atol=2**-8)


@torch.no_grad()
def test_merged_layers_are_packed_as_one_and_held_as_bytes() -> None:
    q, x = made(torch.bfloat16, {"*.weight": "mxint4"})
    expected = q(x)
    MERGE_PROJECTIONS.apply(q)
    ANYWHERE.apply(q)
    held = hold_static(q)
    assert held is not None
    packed = [value for value in held.values if value.dtype == torch.uint8]
    assert [tuple(value.shape) for value in packed] == [(48, 32), (48, 2)]
    assert len(q.graph.find_nodes(op="call_function", target=MX_LINEAR)) == 1
    for got, wanted in zip(q(x), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(
    ("row", "dtype", "format", "reason"),
    [
        (
            PACK_WEIGHTS,
            torch.bfloat16,
            "mxint8",
            "are asked for on cuda, not on cpu",
        ),
        (ANYWHERE, torch.float32, "mxint8", "its result is torch.float32"),
        (ANYWHERE, torch.bfloat16, "int8", "int8"),
    ],
)
def test_other_layers_stay(row, dtype: torch.dtype, format: str, reason: str) -> None:
    q, _ = made(dtype, {"q.weight": format})
    (outcome,) = row.apply(q)
    assert not outcome.kept
    assert reason in outcome.reason
    assert not q.graph.find_nodes(op="call_function", target=MX_LINEAR)


def test_not_where_gradients_are_wanted() -> None:
    q, _ = made(torch.bfloat16, {"q.weight": "mxint8"})
    q.train()
    (outcome,) = ANYWHERE.apply(q)
    assert outcome.reason == "the gradients need the weight itself"
