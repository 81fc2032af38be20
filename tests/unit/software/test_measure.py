"""What is measured of a compiled model, and what is drawn of it: counts exactly, times by rules."""

import pytest
import torch
from torch import nn

from quire.report.compilation import CALLS, payload
from quire.software import measure as measuring
from quire.software.generated import kernel_calls
from quire.software.measure import WAYS, Figures, compare, peak_memory
from quire.software.models import Attention, Mlp, TransformerLayer, with_positions

pytestmark = pytest.mark.usefixtures("fresh_compiler")


def broken(model: nn.Module) -> nn.Module:
    raise RuntimeError("no compiler here\nand more")


def test_ways_are_compared_counted_and_their_failures_noted() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    ways = {
        "eager": WAYS["eager"],
        "traced": lambda m: torch.compile(m, backend="eager"),
        "broken": broken,
    }
    told: list[Figures] = []
    inputs = (torch.randn(32, 8),)
    found = compare({"mlp": (model, inputs)}, "cpu", ways=ways, repeats=2, tell=told.append)
    eager, traced = found.figures
    assert told == found.figures
    assert (eager.way, eager.kernels, eager.breaks, eager.break_even) == ("eager", 3, 0, None)
    assert eager.first_s > 0 < eager.steady_s
    assert eager.device_s is None
    # linear and ReLU (32 x 16 each) are alive at once
    assert eager.peak_bytes == 2 * 32 * 16 * 4
    assert traced.kernels == 3
    assert found.failures == {"mlp: broken": "no compiler here"}
    assert found.left_out == []
    late = compare({"mlp": (model, inputs)}, "cpu", ways=ways, seconds=-1)
    assert (late.figures, late.left_out[0]) == ([], "mlp: eager")


@pytest.mark.parametrize("way", [way for way in WAYS if "compile" in way])
def test_a_way_pays_next_to_eager_with_the_same_formats(way: str, monkeypatch) -> None:
    seen: dict[str, Figures | None] = {}

    def figures(model: str, way: str, *rest: object) -> Figures:
        seen[way] = rest[-1]  # type: ignore[assignment]
        return Figures(model, way, "cpu", 1.0, 1.0, None, None, 0, 1, 8)

    monkeypatch.setattr(measuring, "measure", figures)
    ways = dict.fromkeys(WAYS, WAYS["eager"])
    compare({"m": (nn.Linear(2, 2), (torch.ones(2),))}, "cpu", ways=ways)
    assert seen[way] is not None
    assert seen[way].way == ("eager, mxint8" if "mxint8" in way else "eager")


def test_graph_breaks_are_counted() -> None:
    class Breaks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x + 1
            torch._dynamo.graph_break()
            return y * 2

    ways = {"traced": lambda m: torch.compile(m, backend="eager")}
    found = compare({"m": (Breaks(), (torch.ones(2),))}, "cpu", ways=ways, repeats=1)
    assert found.figures[0].breaks == 1


def test_memory_of_naive_attention_is_that_of_its_scores() -> None:
    qkv = tuple(torch.randn(1, 2, 64, 8) for _ in range(3))
    with torch.no_grad():
        naive = peak_memory(Attention(False), qkv, "cpu")
        fused = peak_memory(Attention(True), qkv, "cpu")
    scores = 2 * 64 * 64 * 4
    assert naive >= 2 * scores
    assert fused < naive / 2


def test_kernels_are_read_from_generated_code() -> None:
    code = """
cpp_fused_add_0 = async_compile.cpp_pybinding(
def call(self, args):
        buf0 = empty_strided_cpu((32, 64), (64, 1), torch.float32)
        extern_kernels.addmm(arg2_1, buf0, out=buf1)
        triton_poi_fused_gelu_1.run(buf1, 2048, stream=stream0)
        cpp_fused_add_0(buf1, buf2)
        buf3 = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(buf1, buf2)
"""
    assert kernel_calls([code, "no code"]) == [
        "extern_kernels.addmm",
        "triton_poi_fused_gelu_1",
        "cpp_fused_add_0",
        "torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default",
    ]


@torch.no_grad()
def test_the_models_mean_what_they_say() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 256)
    naive, fused = TransformerLayer(is_fused=False), TransformerLayer(is_fused=True)
    fused.load_state_dict(naive.state_dict())
    torch.testing.assert_close(naive(x), fused(x))
    assert Mlp(8)(torch.zeros(1, 8)).shape == (1, 8)
    model, inputs = with_positions(nn.Linear(4, 2), {"input": torch.ones(3, 4)})
    assert model(*inputs).shape == (3, 2)


def row(model: str, way: str, first: float, steady: float) -> dict[str, object]:
    return Figures(model, way, "cpu", first, steady, None, None, 0, 1, 8).to_json()


def test_lines_cross_where_compiling_has_paid() -> None:
    rows = [row("layer", "eager", 0.01, 0.01), row("layer", "compiled", 1.0, 0.005)]
    attention = [row(f"{n} tokens, naive", "eager", 0.1, n / 1e4) for n in (128, 512)]
    data = {
        "machine": "here",
        "date": "2026-11-28",
        "torch": "2.13",
        "figures": [
            {
                "device": "cpu",
                "dtype": "float32",
                "models": {
                    "figures": rows,
                    "failures": {"layer: other": "no luck"},
                    "left_out": ["layer: third", "layer: fourth"],
                },
                "attention": {"figures": attention},
            }
        ],
    }
    layer, attended = payload(data)["pictures"]
    assert payload(data)["summary"] == "here, PyTorch 2.13, 2026-11-28; 1 failed; 2 had no time"
    assert layer["title"] == "layer (cpu, float32)"
    eager, compiled = (line["y"] for line in layer["plot"]["data"])
    crossing = next(n for n, a, b in zip(CALLS, eager, compiled, strict=True) if b < a)
    assert 199 < crossing < 300  # (1 - 0.01) / (0.01 - 0.005) = 198 calls
    (line,) = attended["plot"]["data"]
    assert (line["name"], line["x"], line["y"]) == ("naive, eager", [128, 512], [12.8, 51.2])
