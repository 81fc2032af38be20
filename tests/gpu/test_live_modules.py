"""`MXLinear` and `quire.apply` on a CUDA device: what is held there, and what leaves it."""

import copy
import pickle

import pytest
import torch
from torch import nn

import quire
from quire.formats import parse
from quire.software.kernels import PLAIN, case_of, select_layout
from quire.software.mx.linear import MXLinear

DEVICE = torch.device("cuda")
SHAPES = [(256, 512), (70, 200)]  # whole tiles; rows and columns that end within one
shapes = pytest.mark.parametrize(("n", "k"), SHAPES)
formats = pytest.mark.parametrize(
    "text", ["mxint8", "mxint6", "mxint4", "bfp(4,scale_bits=8,size=64)", "mxfp8_e4m3"]
)
dtypes = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)


def layer(n, k, dtype=torch.bfloat16, bias=True):
    torch.manual_seed(n)
    return nn.Linear(k, n, bias=bias).to(dtype)


def expected_layout(text, n, k, dtype):
    layout = select_layout(case_of(DEVICE, parse(text), 1, n, k, dtype))
    return layout.name if layout else PLAIN


@formats
@shapes
@dtypes
@torch.no_grad()
def test_a_layer_that_moves_to_the_device_and_back(text, n, k, dtype):
    mx = MXLinear.from_linear(layer(n, k, dtype), text)
    state = mx.state_dict()
    there = copy.deepcopy(mx).to(DEVICE)
    assert there.layout == expected_layout(text, n, k, dtype)
    for name, value in there.state_dict().items():
        assert torch.equal(value.cpu(), state[name])
    on_device = MXLinear.from_linear(layer(n, k, dtype).to(DEVICE), text)
    assert torch.equal(on_device.codes, there.codes)
    assert torch.equal(on_device.scales, there.scales)
    back = there.cpu()
    assert back.layout == PLAIN
    assert torch.equal(back.codes, state["codes"])
    assert torch.equal(back.scales, state["scales"])


@formats
@shapes
@dtypes
@pytest.mark.parametrize("m", [1, 7, 16, 64, 300])
@torch.no_grad()
def test_its_values_are_those_of_the_rounded_weight(text, n, k, dtype, m):
    source = layer(n, k, dtype)
    mx = MXLinear.from_linear(copy.deepcopy(source), text).to(DEVICE)
    x = torch.randn(m, k, generator=torch.Generator().manual_seed(m)).to(dtype)
    rounded = parse(text).quantize(source.weight, -1).double()
    exact = x.double() @ rounded.T + source.bias.double()
    size = x.double().abs() @ rounded.abs().T + source.bias.double().abs()
    bound = 2 * (k + 2) * 2**-24 * size + torch.finfo(dtype).eps / 2 * exact.abs() + 1e-7
    got = mx(x.to(DEVICE)).cpu()
    assert got.dtype == dtype
    assert torch.all((got.double() - exact).abs() <= bound)
    batched = mx(x.to(DEVICE).unsqueeze(0)).cpu()
    assert torch.equal(batched[0], got)


@formats
@torch.no_grad()
def test_copies_pickles_and_state_dicts(text):
    mx = MXLinear.from_linear(layer(256, 512).to(DEVICE), text)
    x = torch.randn(3, 512, device=DEVICE, dtype=torch.bfloat16)
    fresh = MXLinear(512, 256, text, device=DEVICE, dtype=torch.bfloat16)
    fresh.load_state_dict(mx.state_dict())
    for other in (copy.deepcopy(mx), pickle.loads(pickle.dumps(mx)), fresh):
        assert other.layout == mx.layout
        assert torch.equal(other(x), mx(x))


@formats
def test_gradients_pass_through_the_tiled_weight(text):
    mx = MXLinear.from_linear(layer(70, 200).to(DEVICE), text)
    x = torch.randn(5, 200, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    gradient = torch.randn(5, 70, device=DEVICE, dtype=torch.bfloat16)
    of_x, of_bias = torch.autograd.grad(mx(x), [x, mx.bias], gradient)
    expected = gradient.double() @ mx.weight.double()
    torch.testing.assert_close(of_x.double(), expected, rtol=2**-7, atol=1e-3)
    torch.testing.assert_close(of_bias, gradient.sum(0))


@torch.no_grad()
def test_a_model_in_a_cuda_graph_and_compiled():
    torch.manual_seed(0)
    live = nn.Sequential(nn.Linear(512, 1024), nn.GELU(), nn.Linear(1024, 512)).bfloat16()
    live = live.to(DEVICE)
    quire.apply(live, {"0.weight": "mxint8", "2.weight": "mxint4"}, quiet=True)
    x = torch.randn(4, 512, device=DEVICE, dtype=torch.bfloat16)
    expected = live(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = live(x)
    y.zero_()
    graph.replay()
    assert torch.equal(y, expected)
    compiled = torch.compile(live, fullgraph=True)
    torch.testing.assert_close(compiled(x), expected, rtol=2**-6, atol=2**-6)


@torch.no_grad()
def test_a_hugging_face_model(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(vocab_size=256, num_attention_heads=4, **sizes)
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(tmp_path / "full")
    load = transformers.AutoModelForCausalLM.from_pretrained
    options = {"quantization_config": quire.QuireConfig("mxint8"), "dtype": torch.bfloat16}
    model = load(tmp_path / "full", **options).to(DEVICE)
    tokens = torch.arange(16, device=DEVICE).view(2, 8)
    model.save_pretrained(tmp_path / "codes")
    again = load(tmp_path / "codes").to(DEVICE)
    assert torch.equal(model(tokens).logits, again(tokens).logits)
    on_cpu = load(tmp_path / "codes")(tokens.cpu()).logits
    torch.testing.assert_close(model(tokens).logits.cpu(), on_cpu, rtol=0.05, atol=0.05)
