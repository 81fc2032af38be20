"""Types of tensors: symbolic batch, format, the shape for one example."""

import torch
from torch import nn

from quire.graph import TensorType, capture, type_of


class Flattening(nn.Module):
    def forward(self, x, i):
        return x.reshape(-1, 4), i + 1


def test_types_of_a_graph():
    inputs = (torch.randn(2, 3, 4), torch.arange(2))
    graph = capture(Flattening(), inputs)
    types = {node.name: type_of(node) for node in graph.graph.nodes}
    assert types["x"] == TensorType(("batch", 3, 4), "fp32", (1, 3, 4))
    assert types["view"] == TensorType(("3*batch", 4), "fp32", (3, 4))
    assert types["i"] == TensorType(("batch",), "int64", (1,))
    assert str(types["view"]) == "fp32[3*batch, 4]"
    assert types["view"].is_float
    assert not types["i"].is_float
    assert types["output"] is None


def test_formats_follow_the_dtype():
    graph = capture(nn.Linear(4, 4).bfloat16(), (torch.randn(2, 4).bfloat16(),))
    assert {type_of(n).format for n in graph.graph.nodes if type_of(n)} == {"bf16"}
