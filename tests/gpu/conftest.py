"""Tests of kernels on a CUDA device; outputs are poisoned before a kernel writes them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# cuBLAS gives the same bits from run to run only with a workspace of its own; read at its start.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch

HERE = Path(__file__).parent
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
MARKS = (
    pytest.mark.gpu,
    NEEDS_GPU,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            for mark in MARKS:
                item.add_marker(mark)


@pytest.fixture
def poisoned() -> Iterator[Callable[..., Any]]:
    """Calls a function twice, new tensors holding NaN or the largest integer; the results, which
    must be equal bit for bit, as a tuple."""

    def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        first, second = (_as_tuple(function(*args, **kwargs)) for _ in range(2))
        torch.cuda.synchronize()
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a.view(torch.uint8), b.view(torch.uint8))
        return first

    torch.use_deterministic_algorithms(True, warn_only=True)
    yield call
    torch.use_deterministic_algorithms(False)


def _as_tuple(result: Any) -> tuple[torch.Tensor, ...]:
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)
