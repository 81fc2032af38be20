"""What a checkpoint holds of parameters with several uses: each tensor comes back bit for bit."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

import quire
from quire import Plan


class FoldedAndRaw(nn.Module):
    """A convolution whose weight is used as it is, and folded with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv1d(3, 4, 1)
        self.b = nn.BatchNorm1d(4)
        nn.init.uniform_(self.b.running_var, 4, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.c(x)) + self.c(x)


def reloaded(model: nn.Module, x: Tensor, plan: str, path: Path) -> tuple[Tensor, Tensor]:
    """The results of a quantized graph before and after it was saved."""
    graph = quire.capture(model, (x,))
    q = quire.quantize(graph, Plan.uniform(graph, plan))
    quire.save(q, path)
    assert path.stat().st_size == quire.cost(graph, q.meta["quire_plan"]).memory
    return q(x), quire.load(model, path)(x)


def test_a_folded_weight_and_the_raw_one_have_names_of_their_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "q.safetensors"
    before, after = reloaded(FoldedAndRaw().eval(), torch.randn(2, 3, 5), "mxint8", path)
    assert torch.equal(before, after)
    with safe_open(path, "pt") as file:
        names = {name for name in file.keys() if name.endswith("weight.codes")}  # noqa: SIM118
        assert names == {"c.weight.codes"}
        assert "c.weight#computed.codes" in file.keys()  # noqa: SIM118
