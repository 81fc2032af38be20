"""The table of a softmax and the root of a norm: what a plan says of them reaches `exact`."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import quire
from quire import Plan
from quire.errors import QuireError
from quire.formats import parse
from quire.ops.exact_value import from_float
from quire.ops.integer_functions import layer_norm, rms_norm, softmax
from quire.precision import Entry, Switchable
from quire.precision.exact import exact_cast

SCORES = parse("fixed(8,4)")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(12)
        self.rms = nn.RMSNorm(12, eps=1e-6)
        self.soft = nn.Softmax(-1)
        nn.init.uniform_(self.norm.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.norm(x), self.rms(x), self.soft(x)


def plan(table: str | None = None, bits: int | None = None) -> Plan:
    made = Plan({"soft.input": SCORES, "soft.output": "ufixed(16,16)"})
    if table is not None:
        made["soft.table"] = table
    options = {} if bits is None else {"root": {"bits": bits}}
    for norm in ("norm", "rms"):
        made[f"{norm}.input"] = Entry(SCORES, corrections=options)
    return made


def model() -> Model:
    torch.manual_seed(0)
    return Model().eval()


@pytest.mark.parametrize("p", [4, 10, 15, 24])
def test_the_table_of_a_softmax(p: int) -> None:
    x = randn(3, 12)
    graph = quire.capture(model(), (x,))
    codes = (SCORES.quantize(x) * 16).long()
    expected = exact_cast(softmax(codes, 8, 4, -1, None, p), "ufixed(16,16)").to_float32()
    q = quire.quantize(graph, plan(f"ufixed({p + 1},{p})"))
    assert quire.exact(q)(x)[2].equal(expected)
    default = quire.exact(quire.quantize(graph, plan()))(x)[2]
    assert default.equal(expected) == (p == 15)
    assert q(x)[2].equal(quire.quantize(graph, plan())(x)[2])


@pytest.mark.parametrize("b", [2, 10, 16, 32])
def test_the_root_of_a_norm(b: int) -> None:
    x, m = randn(3, 12), model()
    graph = quire.capture(m, (x,))
    codes = (SCORES.quantize(x) * 16).long()
    weight, bias = from_float(m.norm.weight), from_float(m.norm.bias)
    expected = (
        layer_norm(codes, 4, 1, weight, bias, m.norm.eps, b).to_float32(),
        rms_norm(codes, 4, 1, from_float(m.rms.weight), 1e-6, b).to_float32(),
    )
    got = quire.exact(quire.quantize(graph, plan(bits=b)))(x)[:2]
    default = quire.exact(quire.quantize(graph, plan()))(x)[:2]
    for value, reference, plain in zip(got, expected, default, strict=True):
        assert value.equal(reference)
        assert value.equal(plain) == (b == 16)


def test_settings_survive_json_copies_and_checkpoints(tmp_path: Path) -> None:
    x = randn(3, 12)
    graph = quire.capture(model(), (x,))
    made = plan("ufixed(5,4)", 3)
    made.save(tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["entries"]["norm.input"] == {
        "format": "fixed(8,4)",
        "corrections": {"root": {"bits": 3}},
    }
    read = Plan.load(tmp_path / "p.json", graph)
    assert read == made
    q = quire.quantize(graph, read)
    quire.save(q, tmp_path / "m.safetensors")
    loaded = quire.load(model(), tmp_path / "m.safetensors")
    expected = quire.exact(q)(x)
    plain = quire.exact(quire.quantize(graph, plan()))(x)
    for copy in (loaded, quire.precision.copy_graph(q)):
        for got, reference, default in zip(quire.exact(copy)(x), expected, plain, strict=True):
            assert got.equal(reference)
            assert not got.equal(default)


def test_a_pattern_reaches_the_tables() -> None:
    graph = quire.capture(model(), (randn(2, 12),))
    found = Plan.from_patterns(graph, {"*.table": "ufixed(11,10)", "*": "fixed(8,4)"})
    assert str(found["soft.table"]) == "ufixed(11,10)"
    assert found.keys() == quire.sites(graph).keys()
    assert quire.cost(graph, found).bits == quire.cost(graph, Plan()).bits


def test_a_switchable_graph_has_no_exact_meaning() -> None:
    graph = quire.capture(model(), (randn(2, 12),))
    with pytest.raises(QuireError, match=r"Switchable.*give exact\(\) the graph of quantize\("):
        quire.exact(Switchable(graph).use(plan("ufixed(5,4)")))
