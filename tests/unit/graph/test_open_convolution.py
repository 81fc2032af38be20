"""A convolution and the product over its patches give the same values."""

import pytest
import torch
from torch import nn

from quire.graph import capture, open_convolution, verify
from quire.ops.convolution import CONVOLUTION, patches


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(4, 6, 3, stride=2, padding=1), (4, 9)),
        (nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1)), (4, 9, 8)),
        (nn.Conv2d(4, 6, 3, groups=2, bias=False), (4, 7, 7)),
        (nn.Conv2d(4, 4, 4, groups=4, padding="same"), (4, 7, 8)),
        (nn.Conv2d(4, 6, 3, padding="valid"), (4, 7, 7)),
    ],
    ids=["1d", "strides", "groups", "same", "valid"],
)
def test_opened_convolution(layer, shape):
    torch.manual_seed(0)
    x = torch.randn(3, *shape)
    graph = capture(layer.eval(), (x,))
    (node,) = [n for n in graph.graph.nodes if n.target in CONVOLUTION.targets]
    window, product = open_convolution(graph, node)
    graph.recompile()
    verify(graph)
    assert product.args[0] is window
    torch.testing.assert_close(graph(x), layer(x))


def test_patches_are_the_inputs_of_each_output():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = patches(x, (2, 2), (2, 2), (0, 0), (1, 1), 1)
    assert found.shape == (1, 1, 2, 2, 1, 2, 2)
    assert found[0, 0, 1, 0, 0].tolist() == [[8.0, 9.0], [12.0, 13.0]]
