"""The workbench of a search: what it observes of a model, in the model's own dtype."""

import pytest
import torch
from torch import nn

from quire.explore import Task
from quire.explore.clock import Clock
from quire.explore.workbench import Workbench


def test_the_error_of_a_format_too_wide_for_float32_is_that_of_float64_data():
    x = torch.tensor([[2.0**21 + 2.0**-9, 1.0], [0.25, 2.0**-9]], dtype=torch.float64)
    model = nn.Sequential(nn.Linear(2, 1, dtype=torch.float64))
    bench = Workbench(Task(model, (x,), lambda module: {"loss": 0.0}), 0, Clock())
    found = bench.relative_error("0.input", "fixed(32,8)")
    energy = (2.0**21 + 2.0**-9) ** 2 + 1 + 0.25**2 + 2.0**-18
    assert found == pytest.approx(2 * 2.0**-18 / energy)  # two ties go to the even codes, 2^-9 away
