"""`cast`: values, gradients, axes, and what compilers and exporters make of it."""

import pytest
import torch
from torch import Tensor, nn

import quire
from quire.errors import FormatError
from quire.formats import parse

FORMATS = ["fixed(8,4)", "fp8_e4m3", "log(8)", "mxint4", "bm(e=2,m=1,size=16)", "int8", "nvfp4"]


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 5, 40)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("format", FORMATS)
def test_is_the_quantize_of_the_format(format: str, axis: int, x: Tensor) -> None:
    assert torch.equal(quire.cast(x, format, axis), parse(format).quantize(x, axis))


def test_several_axes_are_one_in_memory_order() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = parse("bfp(4,size=16)").quantize(weight.reshape(4, 27), 1).reshape(4, 3, 3, 3)
    assert torch.equal(quire.cast(weight, "bfp(4,size=16)", (1, 2, 3)), expected)
    assert torch.equal(quire.cast(weight, "bfp(4,size=16)", (-3, -2, -1)), expected)


def test_zero_has_no_sign() -> None:
    values = quire.cast(torch.tensor([-0.0, 0.0, -1e-9]), "fp8_e4m3")
    assert values.signbit().tolist() == [False, False, True]


def test_static_scale(x: Tensor) -> None:
    cast = quire.cast(x, "int8", -1, 0.03125)
    assert torch.equal(cast, (x / 0.03125).round().clamp(-127, 127) * 0.03125)


def test_gradient_passes_straight_and_stops_at_saturation() -> None:
    x = torch.tensor([-9.0, -0.3, 0.0, 0.26, 9.0], requires_grad=True)
    quire.cast(x, "fixed(4,1)").backward(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0]


def test_errors() -> None:
    with pytest.raises(FormatError, match="mxint8"):
        quire.cast(torch.ones(3), "mxint88")
    with pytest.raises(FormatError, match="int64"):
        quire.cast(torch.ones(3, dtype=torch.int64), "mxint8")


class Net(nn.Module):
    def __init__(self, format: str) -> None:
        super().__init__()
        self.format = format
        self.weight = nn.Parameter(torch.randn(6, 40))

    def forward(self, x: Tensor) -> Tensor:
        weight = quire.cast(self.weight, self.format, 1)
        return quire.cast(x, self.format, -1) @ weight.t()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, by its own compiler
@pytest.mark.parametrize("format", ["fixed(8,4)", "mxint4"])
def test_compiles_whole_with_a_free_batch(format: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    compiled = torch.compile(lambda x: quire.cast(x, format, -1), fullgraph=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in (2, 3, 7):
            x = torch.randn(batch, 40)
            torch._dynamo.mark_dynamic(x, 0)
            assert torch.equal(compiled(x), quire.cast(x, format, -1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_gradients() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    net, x = Net("mxint4"), torch.randn(3, 40)
    net(x).square().sum().backward()
    expected, net.weight.grad = net.weight.grad, None
    torch.compile(net, fullgraph=True, backend="aot_eager")(x).square().sum().backward()
    torch.testing.assert_close(net.weight.grad, expected)


def test_exports_again() -> None:
    torch.manual_seed(0)
    net, x = Net("mxint4"), torch.randn(4, 40)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert torch.equal(program.module()(x[:3]), net(x[:3]))


def test_a_quantized_graph_prints_its_casts(mlp) -> None:
    q = quire.quantize(mlp.graph, quire.Plan({"fc1.weight": "mxint4"}))
    assert "quire_cast(fc1_weight, 'mxint4', 1)" in q.print_readable(print_output=False)
