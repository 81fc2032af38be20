"""The drawing of a model: which ops are boxes, what lies at edges, what is left out."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from quire.explore.picture import draw
from quire.graph import capture


class Gated(nn.Module):
    """A pre-norm block with attention of one head and a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.q, self.k, self.v = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.gate, self.up, self.down = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + functional.scaled_dot_product_attention(self.q(y), self.k(y), self.v(y))
        y = self.norm2(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


def drawn(model: nn.Module, *inputs: Tensor, searched: list[str] | None = None) -> dict[str, Any]:
    return draw(capture(model.eval(), inputs), searched or [])


def edges(picture: dict[str, Any]) -> list[tuple[str, str, str]]:
    names = [box["name"] for box in picture["boxes"]]
    return [(names[a], names[b], words) for a, b, words in picture["edges"]]


def test_products_are_boxes_and_what_lies_between_is_words() -> None:
    picture = drawn(Gated(), torch.randn(2, 5, 8))
    names = [box["name"] for box in picture["boxes"]]
    assert names == [
        *("input.x", "q", "k", "v", "qk", "pv", "add"),
        *("gate", "up", "mul", "down", "add_1", "output.0"),
    ]
    assert picture["boxes"][4] == {"name": "qk", "op": "matmul", "sites": ["qk.query", "qk.key"]}
    assert edges(picture) == [
        ("input.x", "q", "norm"),
        ("input.x", "k", "norm"),
        ("input.x", "v", "norm"),
        ("q", "qk", ""),
        ("k", "qk", ""),
        ("qk", "pv", "softmax"),
        ("v", "pv", ""),
        ("input.x", "add", ""),
        ("pv", "add", ""),
        ("add", "gate", "norm"),
        ("add", "up", "norm"),
        ("gate", "mul", "silu"),
        ("up", "mul", ""),
        ("mul", "down", ""),
        ("add", "add_1", ""),
        ("down", "add_1", ""),
        ("add_1", "output.0", ""),
    ]


def test_an_op_with_a_searched_site_is_a_box() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
    picture = drawn(model, torch.randn(2, 4), searched=["1.input"])
    assert [(box["name"], box["sites"]) for box in picture["boxes"]] == [
        ("input.input_1", []),
        ("0", ["0.input", "0.weight"]),
        ("1", ["1.input"]),
        ("2", ["2.input", "2.weight"]),
        ("output.0", []),
    ]
    assert [words for _, _, words in picture["edges"]] == [""] * 4


def test_a_value_that_meets_itself_is_no_box() -> None:
    class Rotated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
            self.register_buffer("angle", torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            left, right = x.chunk(2, -1)
            return self.last(x * self.angle.cos() + torch.cat([-right, left], -1))

    picture = drawn(Rotated(), torch.randn(2, 4))
    assert edges(picture) == [
        ("input.x", "first", ""),
        ("first", "last", ""),
        ("last", "output.0", ""),
    ]


def test_an_embedding_is_a_source() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.ReLU(), nn.Linear(4, 3))
    picture = drawn(model, torch.zeros(2, 5, dtype=torch.long))
    assert edges(picture) == [("0", "2", "relu"), ("2", "output.0", "")]
    assert picture["boxes"][0] == {"name": "0", "op": "embedding", "sites": []}
