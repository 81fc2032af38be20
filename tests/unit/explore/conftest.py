"""A small network and its task, for searches that take a second."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from quire.explore import Task

Evaluate = Callable[[nn.Module], Mapping[str, float]]


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 4)).eval()


def _make_task(evaluate: Evaluate | None = None) -> Task:
    model = make_model()
    x = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    y = model(x).detach()

    def error(q: nn.Module) -> dict[str, float]:
        return {"error": float((q(x) - y).square().mean())}

    return Task(model, (x[:2],), evaluate or error, calibration=(x,))


@pytest.fixture
def make_task() -> Callable[..., Task]:
    """`make_task(evaluate)`; by default the "error" is the squared difference from fp32."""
    return _make_task


@pytest.fixture
def task() -> Task:
    return _make_task()


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return str(tmp_path / "study.journal")
