"""Saving and loading quantized models: size, bits, damage, and models that do not fit."""

import json
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import quire
from quire import Plan
from quire.errors import CheckpointError

PLANS = ["mxint4", "mxint8", "fixed(6,4)", "int4", "int4_g128", "uint8", "nf4", "nvfp4", "ternary"]


class Net(nn.Module):
    """A convolution with a batch norm, a tied embedding, a bias, and a buffer."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.embed = nn.Embedding(10, width)
        self.fc = nn.Linear(width, width)
        self.head = nn.Linear(width, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("shift", torch.randn(width))

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(image))).mean((2, 3))
        return self.head(self.fc(x) + self.embed(label) + self.shift)


def make(seed: int, width: int = 24) -> Net:
    torch.manual_seed(seed)
    net = Net(width).eval()
    nn.init.uniform_(net.norm.running_var, 0.5, 2.0)
    nn.init.normal_(net.norm.running_mean)
    nn.init.normal_(net.norm.weight)
    return net


@pytest.fixture(scope="module")
def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(6, 1, 8, 8), torch.randint(10, (6,))


@pytest.fixture(scope="module")
def graph(inputs: tuple[Tensor, Tensor]) -> torch.fx.GraphModule:
    return quire.capture(make(0), inputs)


@pytest.fixture
def saved(graph: torch.fx.GraphModule, tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    quire.save(quire.quantize(graph, Plan.uniform(graph, "mxint4")), path)
    return path


@pytest.mark.parametrize("scope", ["operands", "all"])
@pytest.mark.parametrize("format", PLANS)
def test_size_is_predicted_and_reload_is_identical(
    graph: torch.fx.GraphModule,
    inputs: tuple[Tensor, Tensor],
    tmp_path: Path,
    format: str,
    scope: Any,
) -> None:
    plan, path = Plan.uniform(graph, format, scope), tmp_path / "m.safetensors"
    q = quire.quantize(graph, plan)
    quire.save(q, path)
    size = os.path.getsize(path)
    assert abs(quire.cost(graph, plan).memory - size) <= 0.01 * size
    other = make(7)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    loaded = quire.load(other, path)
    with torch.no_grad():
        assert torch.equal(loaded(*inputs), q(*inputs))
        assert torch.equal(loaded(*(x[:1] for x in inputs)), q(*(x[:1] for x in inputs)))
    assert all(torch.equal(before[name], t) for name, t in other.state_dict().items())


def test_every_tensor_is_what_the_casts_gave(graph: torch.fx.GraphModule, saved: Path) -> None:
    loaded, state = quire.load(make(7), saved), make(0).state_dict()
    found = loaded.state_dict()
    assert found.keys() == state.keys()
    for name in ("fc.weight", "embed.weight", "head.weight"):
        assert torch.equal(found[name], quire.cast(state[name], "mxint4", 1)), name
    for name in ("fc.bias", "shift", "norm.weight", "norm.bias", "norm.running_var"):
        assert torch.equal(found[name], state[name]), name
    assert loaded.embed.weight is loaded.head.weight


def test_the_exact_meaning_comes_back(
    graph: torch.fx.GraphModule, inputs: tuple[Tensor, Tensor], saved: Path
) -> None:
    q = quire.quantize(graph, Plan.uniform(graph, "mxint4"))
    assert torch.equal(quire.exact(quire.load(make(7), saved))(*inputs), quire.exact(q)(*inputs))


def test_what_the_file_holds(saved: Path) -> None:
    with safe_open(saved, "pt") as file:
        names, record = set(file.keys()), json.loads(file.metadata()["quire"])
    coded = {name.rsplit(".", 1)[0] for name in names if name.endswith(".codes")}
    assert coded == {
        "conv.weight#computed",
        "head.weight",
        "fc.weight",
    }  # head.weight is embed.weight
    assert names - {f"{n}.{part}" for n in coded for part in ("codes", "scales")} == {
        "fc.bias",
        "shift",
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
    }
    assert record["plan"]["entries"]["fc.weight"] == "mxint4"
    assert record["digests"].keys() == names | {"plan and inputs"}


def test_keyword_inputs_and_explicit_examples(
    inputs: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    named = dict(zip(("image", "label"), inputs, strict=True))
    graph = quire.capture(make(0), named)
    q, path = quire.quantize(graph, Plan.uniform(graph, "int8")), tmp_path / "m.safetensors"
    quire.save(q, path)
    expected = q(**named)
    assert torch.equal(quire.load(make(7), path)(**named), expected)
    assert torch.equal(quire.load(make(7), path, named)(**named), expected)


class Nested(nn.Module):
    """Takes tensors inside of dicts and lists, and what is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, batch: Any, scale: float, mask: Tensor | None) -> Tensor:
        x = self.fc(batch["x"]) * scale + batch["more"][0] + batch["more"][1][0]
        return x if mask is None else x * mask


@pytest.mark.parametrize("by_name", [False, True])
def test_nested_inputs_and_what_is_no_tensor(tmp_path: Path, by_name: bool) -> None:
    x, path = torch.randn(3, 8), tmp_path / "m.safetensors"
    batch = {"x": x, "more": [x + 1, (x + 2,)]}
    named = {"batch": batch, "scale": 1.5, "mask": None}
    args, kwargs = ((), named) if by_name else (tuple(named.values()), {})
    graph = quire.capture(Nested(), kwargs or args)
    q = quire.quantize(graph, Plan.uniform(graph, "mxint4"))
    quire.save(q, path)
    with safe_open(path, "pt") as file:
        examples = json.loads(file.metadata()["quire"])["inputs"]["examples"]
    kind, value = ("dict", examples["dict"]["batch"]) if by_name else ("tuple", None)
    assert kind in examples
    assert value in (None, {"dict": {"x": TENSOR, "more": [TENSOR, {"tuple": [TENSOR]}]}})
    loaded = quire.load(Nested(), path)
    assert torch.equal(loaded(*args, **kwargs), q(*args, **kwargs))
    assert path.stat().st_size == quire.cost(graph, Plan.uniform(graph, "mxint4")).memory


TENSOR = {"tensor": ["float32", [2, 8]]}


def test_inputs_that_json_does_not_hold_are_asked_for(tmp_path: Path) -> None:
    x, path = torch.randn(3, 8), tmp_path / "m.safetensors"
    inputs = (OrderedDict(x=x, more=[x, (x,)]), 1.5, None)
    q = quire.quantize(quire.capture(Nested(), inputs), Plan())
    quire.save(q, path)
    with pytest.raises(CheckpointError, match=r"holds a OrderedDict: give load\(\) example_inputs"):
        quire.load(Nested(), path)
    model = Nested()
    assert torch.equal(quire.load(model, path, inputs)(*inputs), q(*inputs))


def test_bfloat16(inputs: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    x, path = inputs[0].flatten(1).bfloat16(), tmp_path / "m.safetensors"
    torch.manual_seed(0)
    graph = quire.capture(nn.Linear(64, 5).bfloat16(), (x,))
    plan = Plan.uniform(graph, "mxint8")
    q = quire.quantize(graph, plan)
    quire.save(q, path)
    assert quire.cost(graph, plan).memory == os.path.getsize(path)
    assert torch.equal(quire.load(nn.Linear(64, 5).bfloat16(), path)(x), q(x))


def tensor_range(path: Path, name: str) -> tuple[int, int]:
    """Where a tensor lies in a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    first, last = json.loads(data[8:start])[name]["data_offsets"]
    return start + first, start + last


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name", ["fc.weight.codes", "conv.weight#computed.scales", "norm.running_mean"]
)
def test_a_flipped_bit_is_found(saved: Path, name: str) -> None:
    flip(saved, tensor_range(saved, name)[1] - 1)
    with pytest.raises(CheckpointError, match=rf"m.safetensors: {name} is damaged"):
        quire.load(make(0), saved)


def test_a_changed_plan_is_found(saved: Path) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data.replace(b'fc.input\\":\\"mxint4', b'fc.input\\":\\"mxint8'))
    with pytest.raises(CheckpointError, match="plan and inputs is damaged"):
        quire.load(make(0), saved)


def cut(keep: Callable[[Path], int]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: keep(path)]) and None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut(lambda p: tensor_range(p, "fc.weight.codes")[1] - 1), "within or before tensor fc.w"),
        (cut(lambda p: tensor_range(p, "shift")[0]), "within or before tensor"),
        (cut(lambda p: 300), "truncated within its header"),
        (cut(lambda p: 3), "truncated within its header|damaged in its header"),
        (cut(lambda p: 0), "m.safetensors"),
        (lambda p: p.write_bytes(b"\x08" + bytes(7) + b"no json!"), "damaged in its header"),
        (lambda p: p.unlink(), "cannot be read: No such file"),
    ],
)
def test_a_truncated_file(saved: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(saved)
    with pytest.raises(CheckpointError, match=message) as error:
        quire.load(make(0), saved)
    assert "m.safetensors" in str(error.value)


def test_another_safetensors_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.ones(3)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"x.safetensors: not a checkpoint of Quire"):
        quire.load(make(0), tmp_path / "x.safetensors")


def test_a_model_that_does_not_fit(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"m.safetensors does not fit this Net: conv.weight"):
        quire.load(make(0, width=16), saved)
    with pytest.raises(CheckpointError, match="does not fit this Linear"):
        quire.load(nn.Linear(8, 8), saved)


def test_what_cannot_be_saved(graph: torch.fx.GraphModule, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no plan; give one that quantize"):
        quire.save(graph, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"from .*safetensors .*: copy that file, or save"):
        quire.save(quire.load(make(0), saved), tmp_path / "x")


def test_a_failed_write_leaves_the_old_file(
    graph: torch.fx.GraphModule, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space")

    before = saved.read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        quire.save(quire.quantize(graph, Plan.uniform(graph, "mxint8")), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
