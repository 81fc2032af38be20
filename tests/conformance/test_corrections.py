"""Every correction on every registered format: what both promise together."""

import json

import pytest
import torch
from torch import nn

import quire
from quire import Plan
from quire.formats import Block, Format, Pow2, families, parse, presets
from quire.formats.registry import EXAMPLES
from quire.precision import Entry, correct
from quire.precision.corrections import CORRECTIONS
from quire.precision.legal import is_legal

OTHERS = [
    "block(fixed(3,0),size=1,scale=fp8_e4m3)",
    "block(fixed(4,2),size=200,scale=pow2(8))",
    "bfp(3,scale_bits=4,size=5,bias=2)",
    'block(fp4_e2m1,size="tensor",scale=pow2(8))',
    'block(binary,size="all",scale=bf16)',
    "block(ternary,size=16,scale=fp32)",
    "block(ternary,size=3,scale=fp8_e4m3)",
    'block(ufixed(8,0),size="tensor",scale=fp32,zero_point=True)',
    "block(dmf(e=3,m=2),size=8,scale=pow2(8))",
]
FORMATS: list[Format] = list(
    dict.fromkeys([*presets.values(), *map(parse, EXAMPLES.values()), *map(parse, OTHERS)])
)


class Model(nn.Module):
    """Rows of 37 values, so that blocks are ragged, one of them zero."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(37, 7)
        nn.init.zeros_(self.fc.weight[3])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


torch.manual_seed(0)
MODEL = Model().eval()
X = torch.randn(60, 37) @ torch.randn(37, 37) / 6 + 0.2
GRAPH = quire.capture(MODEL, (X[:2],))
SITE = quire.sites(GRAPH)["fc.weight"]


def squared_error(weight: torch.Tensor, bias: torch.Tensor) -> float:
    exact = X.double() @ MODEL.fc.weight.double().T + MODEL.fc.bias.double()
    return float((X.double() @ weight.double().T + bias.double() - exact).square().sum())


@pytest.mark.parametrize("fmt", [f for f in FORMATS if is_legal(SITE, f)], ids=str)
@pytest.mark.parametrize("names", ["clip", "gptq", "bias", "clip+gptq+bias"])
@torch.no_grad()
def test_a_correction_of_a_weight(names: str, fmt: Format) -> None:
    chosen = [name for name in names.split("+") if CORRECTIONS[name].takes(SITE, Entry(fmt))]
    entry = Entry.of("+".join([str(fmt), *chosen]))
    plan = Plan({"fc.weight": entry})
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    before = MODEL.fc.weight.clone(), MODEL.fc.bias.clone()

    corrected, left = correct(GRAPH, plan, X)
    weight, bias = corrected.fc.weight, corrected.fc.bias
    assert torch.equal(MODEL.fc.weight, before[0])
    assert torch.equal(MODEL.fc.bias, before[1])
    assert left["fc.weight"] == Entry(fmt)

    once = quire.cast(weight, str(fmt), 1)
    if not isinstance(fmt, Block) or isinstance(fmt.scale, Pow2):
        assert torch.equal(quire.cast(once, str(fmt), 1), once)
        if chosen == ["gptq"]:  # its rows are on the grid, or as they were
            assert ((once == weight) | (weight == MODEL.fc.weight)).all()
    plain = squared_error(quire.cast(MODEL.fc.weight, str(fmt), 1), MODEL.fc.bias)
    assert squared_error(once, bias) <= plain * (1 + 1e-6) + 1e-9


def test_names_of_corrections_are_no_part_of_a_format_string() -> None:
    assert not any("+" in str(fmt) for fmt in FORMATS)
    assert not CORRECTIONS.keys() & {*families, *presets}
    assert all(name.isidentifier() and name == c.name for name, c in CORRECTIONS.items())
