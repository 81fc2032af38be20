"""Tasks: what `evaluate` may return, and finding one by its name."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quire.errors import TaskError
from quire.explore import Task


def task(returned: Any) -> Task:
    return Task(nn.Identity(), (torch.ones(1),), lambda model: returned)


def test_metrics_are_floats() -> None:
    metrics = {"loss": torch.tensor(0.5), "accuracy": 1, "right": True}
    assert task(metrics).score(nn.Identity()) == {"loss": 0.5, "accuracy": 1.0, "right": 1.0}


@pytest.mark.parametrize(
    "returned", [None, 0.5, {}, {"loss": math.nan}, {"loss": math.inf}, {"loss": "low"}]
)
def test_anything_else_is_an_error(returned: Any) -> None:
    with pytest.raises(TaskError, match="evaluate"):
        task(returned).score(nn.Identity())


def test_resolve_finds_modules_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_task_module.py").write_text(
        "import torch\nfrom quire.explore import Task\n"
        "def task():\n    return Task(torch.nn.Identity(), (torch.ones(2),), lambda m: {'a': 1})\n"
        "def other():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert Task.resolve("my_task_module:task").example_inputs[0].shape == (2,)
    with pytest.raises(TaskError, match="no function 'nothing'"):
        Task.resolve("my_task_module:nothing")
    with pytest.raises(TaskError, match="returned a int"):
        Task.resolve("my_task_module:other")


@pytest.mark.parametrize("text", ["demo", ":f", "demo:", "no_such_module:f"])
def test_names_that_lead_nowhere(text: str) -> None:
    with pytest.raises(TaskError, match=f"task '{text}'"):
        Task.resolve(text)


def test_a_model_is_a_module() -> None:
    with pytest.raises(TaskError, match=r"give a torch\.nn\.Module"):
        Task(abs, (), dict)  # type: ignore[arg-type]
