"""Tasks: what `evaluate` may return, and finding one by its name."""

import importlib
import math
import sys
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


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "import no_such_library\n",
            r"No module named 'no_such_library' \(my_bad.py, line 1\); inst",
        ),
        ("\nx = 1 / 0\n", r"its import raised ZeroDivisionError: .* \(my_bad.py, line 2\)"),
        ("def f(:\n", r"its import raised SyntaxError: "),
        ("def f():\n    open('')\n", r"raised FileNotFoundError: .* \(my_bad.py, line 2\)"),
    ],
)
def test_what_a_module_raises_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    (tmp_path / "my_bad.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sys.modules.pop("my_bad", None)
    importlib.invalidate_caches()
    with pytest.raises(TaskError, match=words):
        Task.resolve("my_bad:f")


@pytest.mark.parametrize("text", ["demo", ":f", "demo:", "no_such_module:f", "./demo:f", "a/b:f"])
def test_names_that_lead_nowhere(text: str) -> None:
    with pytest.raises(TaskError, match=f"task '{text}'"):
        Task.resolve(text)


def test_a_model_is_a_module() -> None:
    with pytest.raises(TaskError, match=r"give a torch\.nn\.Module"):
        Task(abs, (), dict)  # type: ignore[arg-type]


def test_inputs_and_functions_are_of_their_kind() -> None:
    model, x = nn.Identity(), torch.ones(2)
    with pytest.raises(TaskError, match="example_inputs are a Tensor: give a tuple, or a dict"):
        Task(model, x, dict)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="evaluate of a task is None: give a function"):
        Task(model, (x,), None)  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="train of a task is 3: give a function"):
        Task(model, (x,), dict, train=3)  # type: ignore[arg-type]
