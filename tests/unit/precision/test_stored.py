"""What a checkpoint holds of parameters with several uses: each tensor comes back bit for bit."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

import quire
from quire import Plan
from quire.precision.switchable import Switchable


class FoldedAndRaw(nn.Module):
    """A convolution whose weight is used as it is, and folded with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv1d(3, 4, 1)
        self.b = nn.BatchNorm1d(4)
        nn.init.uniform_(self.b.running_var, 4, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.c(x)) + self.c(x)


class TwoAxes(nn.Module):
    """One parameter, reduced over its rows and then over its columns."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(32, 64) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(x @ self.w), self.w)


def reloaded(model: nn.Module, x: Tensor, plan: str, path: Path) -> tuple[Tensor, Tensor]:
    """The results of a quantized graph before and after it was saved."""
    graph = quire.capture(model, (x,))
    q = quire.quantize(graph, Plan.uniform(graph, plan))
    quire.save(q, path)
    assert path.stat().st_size == quire.cost(graph, q.meta["quire_plan"]).memory
    return q(x), quire.load(model, path)(x)


@torch.no_grad()
def test_a_tied_parameter_has_one_cast_along_the_axis_of_its_first_product(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = TwoAxes(), torch.randn(4, 32)
    before, after = reloaded(model, x, "mxint4", tmp_path / "q.safetensors")
    assert torch.equal(before, after)
    graph = quire.capture(model, (x,))
    plan = Plan({next(n for n, s in quire.sites(graph).items() if s.role == "weight"): "mxint4"})
    w = quire.formats.parse("mxint4").quantize(model.w, 0)
    expected = F.linear(torch.relu(x @ w), w)
    torch.testing.assert_close(quire.quantize(graph, plan)(x), expected)
    assert torch.equal(Switchable(graph).use(plan)(x), quire.quantize(graph, plan)(x))


def test_a_folded_weight_and_the_raw_one_have_names_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "q.safetensors"
    before, after = reloaded(FoldedAndRaw().eval(), torch.randn(2, 3, 5), "mxint8", path)
    assert torch.equal(before, after)
    with safe_open(path, "pt") as file:
        names = {name for name in file.keys() if name.endswith("weight.codes")}  # noqa: SIM118
        assert names == {"c.weight.codes"}
        assert "c.weight#computed.codes" in file.keys()  # noqa: SIM118
