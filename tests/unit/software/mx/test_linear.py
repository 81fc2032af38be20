"""`MXLinear`: its values, and that only the plain layout ever leaves it."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import quire
from quire.errors import FormatError, PlanError
from quire.formats import parse
from quire.software import kernels
from quire.software.kernels import Kernel, Layout, Weight
from quire.software.kernels.reference import linear as reference
from quire.software.mx.linear import MXLinear


def layer(bias=True, seed=0, **shape):
    torch.manual_seed(seed)
    return nn.Linear(40, 6, bias=bias, **shape)


@pytest.fixture(params=["plain", "tiled", "tiled, no kernel"])
def layout(request, monkeypatch):
    """A layout that turns the bytes round and keeps a row scale, held on the CPU for bfloat16."""
    kernels.load_providers()
    monkeypatch.setattr(kernels, "KERNELS", dict(kernels.KERNELS))
    monkeypatch.setattr(kernels, "LAYOUTS", kernels.LAYOUTS)
    if request.param == "plain":
        return "plain"
    monkeypatch.setitem(kernels.LAYOUTS, "turned", TURNED)
    kernels.register(
        Kernel("turned", "mx_linear", lambda c: request.param == "tiled", run, layout="turned")
    )
    return "turned"


def tile(weight, format, k, dtype):
    assert dtype == torch.bfloat16
    return Weight(weight.codes.flip(-1), weight.scales.flip(-1), torch.full((6,), 1 / 3))


def untile(weight, format, n, k, dtype):
    assert (n, k, dtype) == (6, 40, torch.bfloat16)
    assert torch.equal(weight.row_scale, torch.full((6,), 1 / 3))
    return Weight(weight.codes.flip(-1), weight.scales.flip(-1))


def run(x, weight, bias, format, n):
    return reference(x, untile(weight, format, n, 40, x.dtype), bias, format, n)


def on_cpu(case):
    return case.device == "cpu" and case.dtype == torch.bfloat16


TURNED = Layout("turned", on_cpu, tile, untile)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("text", ["mxint8", "mxint6", "mxint4", "mxfp8_e4m3"])
def test_it_is_the_linear_of_the_rounded_weight(text, bias, layout):
    source = layer(bias).bfloat16()
    mx, x = MXLinear.from_linear(source, text), torch.randn(2, 3, 40).bfloat16()
    assert mx.layout == layout
    assert mx.bias is source.bias
    rounded = parse(text).quantize(source.weight.detach(), -1)
    assert torch.equal(mx.weight, rounded)
    sums = F.linear(x.float(), rounded.float(), source.bias.float() if bias else None)
    assert torch.equal(mx(x), sums.bfloat16())
    x = x.float()
    expected = F.linear(x, rounded.float(), source.bias.float() if bias else None)
    assert torch.equal(mx(x), expected)


def test_conv1d_of_transformers():
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    source, x = Conv1D(6, 40), torch.randn(3, 40)
    nn.init.normal_(source.bias)
    mx = MXLinear.from_linear(source, "mxint8")
    assert (mx.in_features, mx.out_features) == (40, 6)
    rounded = parse("mxint8").quantize(source.weight.detach(), 0)
    torch.testing.assert_close(mx(x), torch.addmm(source.bias, x, rounded))


def test_the_input_is_cast_first():
    source, x = layer(), torch.randn(3, 40)
    mx = MXLinear.from_linear(source, "mxint8", input_format="mxint4")
    assert torch.equal(mx(x), MXLinear.from_linear(source, "mxint8")(quire.cast(x, "mxint4")))
    static = MXLinear.from_linear(source, "mxint8", input_format="int8", input_scale=0.01)
    cast = quire.cast(x, "int8", -1, 0.01)
    assert torch.equal(static(x), MXLinear.from_linear(source, "mxint8")(cast))


def test_the_state_dict_is_plain(layout):
    source = layer().bfloat16()
    mx = MXLinear.from_linear(source, "mxint6")
    encoded = parse("mxint6").encode(source.weight.detach(), -1)
    state = mx.state_dict()
    assert list(state) == ["bias", "codes", "scales", "_extra_state"]
    assert bytes(state["_extra_state"].tolist()) == b"mxint6"
    assert torch.equal(state["codes"], quire.formats.packing.pack_bits(encoded.codes, 6))
    assert torch.equal(state["scales"], encoded.scales)

    fresh = MXLinear(40, 6, "mxint6", dtype=torch.bfloat16)
    assert torch.equal(fresh.weight, torch.zeros(6, 40).bfloat16())
    fresh.load_state_dict(state)
    assert fresh.layout == layout
    assert torch.equal(fresh.weight, mx.weight)
    empty = MXLinear(40, 6, "mxint6", dtype=torch.bfloat16, device="meta")
    empty.load_state_dict(state, assign=True)
    assert empty.layout == layout
    x = torch.randn(2, 40).bfloat16()
    assert torch.equal(empty(x), mx(x))


def test_a_state_dict_that_does_not_fit():
    other = MXLinear(40, 5, "mxint6").state_dict()
    with pytest.raises(RuntimeError, match=r"size mismatch for codes.*\[5, 30\].*\[6, 30\]"):
        MXLinear(40, 6, "mxint6").load_state_dict(other)


def test_codes_of_another_format_are_refused(layout):
    state = MXLinear.from_linear(layer(), "mxint8").state_dict()
    model = nn.Sequential(MXLinear(40, 6, "mxfp8_e4m3", dtype=torch.bfloat16))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PlanError, match=r"codes of 'mxint8'.*40 -> 6 is mxfp8_e4m3; apply the pl"):
        model.load_state_dict({f"0.{name}": value for name, value in state.items()})
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(PlanError, match="codes of '<'"):
        MXLinear(40, 6, "mxint8").set_extra_state(torch.tensor([[60]]))
    del state["_extra_state"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "_extra_state"'):
        MXLinear(40, 6, "mxint8").load_state_dict(state)


def test_to_holds_what_the_device_and_dtype_ask_for(layout):
    mx = MXLinear.from_linear(layer(), "mxint8")
    assert mx.layout == "plain"
    plain, x = mx.codes, torch.randn(2, 40).bfloat16()
    mx.to(torch.bfloat16)
    assert (mx.layout, mx.dtype, mx.bias.dtype) == (layout, torch.bfloat16, torch.bfloat16)
    assert layout == "plain" or torch.equal(mx.codes, plain.flip(-1))
    y = mx(x)
    mx.float().half().bfloat16()
    assert torch.equal(mx(x), y)
    mx.float()
    assert (mx.layout, mx.dtype, mx.row_scale) == ("plain", torch.float32, None)
    assert torch.equal(mx.codes, plain)
    assert mx.codes.dtype == torch.uint8
    assert mx.to("meta").codes.is_meta


def test_copies_and_pickles(layout):
    mx = MXLinear.from_linear(layer().bfloat16(), "mxint4")
    x = torch.randn(2, 40).bfloat16()
    for other in (copy.deepcopy(mx), pickle.loads(pickle.dumps(mx))):
        assert other.layout == layout
        assert torch.equal(other(x), mx(x))
        assert other.codes.data_ptr() != mx.codes.data_ptr()
    assert mx.layout == layout
    kept = mx.__getstate__()["_buffers"]
    assert kept["row_scale"] is None
    assert torch.equal(kept["codes"], mx.state_dict()["codes"])


def test_safetensors(tmp_path, layout):
    mx = MXLinear.from_linear(layer().bfloat16(), "mxint4")
    save_file(mx.state_dict(), tmp_path / "layer.safetensors")
    fresh = MXLinear(40, 6, "mxint4", dtype=torch.bfloat16)
    fresh.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    x = torch.randn(2, 40).bfloat16()
    assert torch.equal(fresh(x), mx(x))


def test_it_trains_its_bias_and_what_is_before(layout):
    mx, x = MXLinear.from_linear(layer().bfloat16(), "mxint8"), torch.ones(2, 40).bfloat16()
    mx(x.requires_grad_()).sum().backward()
    assert torch.equal(mx.bias.grad, torch.full((6,), 2.0).bfloat16())
    assert torch.equal(x.grad[0], mx.weight.float().sum(0).bfloat16())


def test_it_compiles_whole(layout):
    mx = MXLinear.from_linear(layer().bfloat16(), "mxint8", input_format="mxint8")
    compiled = torch.compile(mx, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 40).bfloat16()
    with torch.no_grad():
        assert torch.equal(compiled(x), mx(x))


@pytest.mark.parametrize("width", [39, 32, 64, 0])
def test_an_input_of_another_width_is_refused(layout, width):
    mx = MXLinear.from_linear(layer().bfloat16(), "mxint8")
    assert mx.layout == layout
    with pytest.raises(
        FormatError, match=rf"a layer 40 -> 6 takes \(..., 40\), not \(2, {width}\)"
    ):
        mx(torch.randn(2, width).bfloat16())


def test_refusals():
    with pytest.raises(FormatError, match="int8: the mx ops take a block of"):
        MXLinear(40, 6, "int8")
    with pytest.raises(PlanError, match=r"Conv2d is no linear layer that can be swapped; those"):
        MXLinear.from_linear(nn.Conv2d(1, 1, 1), "mxint8")


def test_it_prints_its_format():
    mx = MXLinear(40, 6, "mxint8", input_format="mxint4")
    assert str(mx) == (
        "MXLinear(in_features=40, out_features=6, format=mxint8, bias=True, input_format=mxint4)"
    )
