"""`explain`: graphs, breaks, and what of a plan says nothing of the model."""

import pytest
import torch
from torch import Tensor, nn

from quire.errors import CaptureError
from quire.precision import Plan
from quire.software.explain import explain

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.usefixtures("fresh_compiler"),
]


class Broken(nn.Module):
    """Two layers that Dynamo takes in two graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(32, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc1(x)
        if float(y.sum()) > 1e9:
            y = -y
        return self.fc2(y)


ENTRIES = {"fc1.weight": "mxint8", "fc3.weight": "mxint4", "f*.weight": "mxint8", "g*": "bfp(4)"}


@pytest.mark.parametrize("kind", ["mapping", "file", "plan"])
def test_what_says_nothing_of_the_model_is_listed(kind, tmp_path):
    Plan(ENTRIES).save(tmp_path / "plan.json")
    given = {"mapping": ENTRIES, "file": tmp_path / "plan.json", "plan": Plan(ENTRIES)}[kind]
    found = explain(Broken(), (torch.ones(2, 32),), given)
    assert found.missing == ("fc3.weight", "g*")
    assert found.report.placed == ["fc1.weight", "fc2.weight"]
    assert found.graphs == len(found.breaks) + 1 == 2
    assert "float(y.sum())" in found.breaks[0]
    assert "\n  no graph has fc3.weight, g*\n" in str(found)


def test_a_tensor_alone_is_no_example():
    with pytest.raises(CaptureError, match=r"of Linear are a Tensor: give a tuple, such as \(x,\)"):
        explain(nn.Linear(4, 4), torch.ones(2, 4))


def test_one_format_says_nothing_of_names():
    found = explain(nn.Linear(32, 4), (torch.ones(2, 32),), "mxint8")
    assert found.missing == ()
    assert (found.graphs, found.breaks) == (1, ())
