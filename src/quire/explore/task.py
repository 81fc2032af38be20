"""What the user brings to a search: a model, its inputs, and functions that score and train it."""

import importlib
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import nn

from quire.errors import TaskError


@dataclass(frozen=True)
class Task:
    """A model and what it is for.

    model: the trained fp32 network, in eval mode or not; a search never changes it.
    example_inputs: a tuple, or a dict of keyword arguments, as `quire.capture` takes them.
    evaluate: called with a module that takes the model's inputs (in eval mode, without gradients);
        returns {metric: number}. It should score a validation split, never the test split.
    calibration: inputs like `example_inputs` from which value ranges are taken; None: the examples.
    train: called as `train(module, epochs)` for quantization-aware trials; trains in place.
    """

    model: nn.Module
    example_inputs: tuple[Any, ...] | Mapping[str, Any]
    evaluate: Callable[[nn.Module], Mapping[str, float]]
    calibration: tuple[Any, ...] | Mapping[str, Any] | None = None
    train: Callable[[nn.Module, int], object] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TaskError(f"the model of a task is {self.model!r}: give a torch.nn.Module")
        if not isinstance(self.example_inputs, tuple | Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(self.example_inputs).__name__
            raise TaskError(f"example_inputs are a {kind}: give a tuple, or a dict of keywords")
        for name, function in (("evaluate", self.evaluate), ("train", self.train or len)):
            if not callable(function):
                raise TaskError(f"{name} of a task is {function!r}: give a function")

    def score(self, model: nn.Module) -> dict[str, float]:
        """The metrics of `model` as finite floats; TaskError where `evaluate` gives others."""
        metrics: object = self.evaluate(model)
        if not isinstance(metrics, Mapping) or not metrics:
            raise TaskError(f"evaluate returned {metrics!r}: return {{metric name: number}}")
        named = cast("Mapping[object, object]", metrics).items()
        return {str(name): _finite(str(name), value) for name, value in named}

    @classmethod
    def resolve(cls, text: str) -> "Task":
        """The task that `module:function` returns; the working directory is searched first."""
        module_name, _, function_name = text.partition(":")
        if not module_name or not function_name or module_name[0] == "." or "/" in module_name:
            raise TaskError(f"task {text!r}: write module:function, a function that returns a Task")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        module = _import(module_name, text)
        function = getattr(module, function_name, None)
        if not callable(function):
            raise TaskError(f"task {text!r}: {module_name} has no function {function_name!r}")
        try:
            task = function()
        except Exception as error:  # whatever the user's code raises
            raise TaskError(
                f"task {text!r}: {function_name}(), called without arguments, raised "
                f"{_problem(error, module_name)}"
            ) from error
        if not isinstance(task, cls):
            raise TaskError(f"task {text!r} returned a {type(task).__name__}; return a quire.Task")
        return task


def _import(name: str, task: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not f"{name}.".startswith(f"{error.name}."):  # one that it imports
            raise TaskError(f"task {task!r}: {_problem(error, name)}; install it") from error
        raise TaskError(
            f"task {task!r}: {error}; give a module of the working directory ({Path.cwd()}) "
            "or an installed one, with dots and without .py"
        ) from error
    except Exception as error:  # whatever the user's code raises
        raise TaskError(f"task {task!r}: its import raised {_problem(error, name)}") from error


def _problem(error: Exception, module: str) -> str:
    """An error in words, with the line of the user's module that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f for f in frames if Path(f.filename).stem == module.rpartition(".")[2]]
    where = f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if lines else ""
    return f"{type(error).__name__}: {error}{where}"


def _finite(name: str, value: object) -> float:
    number = float(value) if isinstance(value, Real) or hasattr(value, "item") else math.nan  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise TaskError(f"evaluate gave {name!r} = {value!r}: a metric is a finite number")
    return number
