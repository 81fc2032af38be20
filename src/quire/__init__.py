"""Quire: mixed-precision number formats for PyTorch, exact, searched and turned into what runs.

The public names load on first use, so that `import quire` is quick and extras stay optional.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quire import formats
    from quire.errors import QuireError
    from quire.explore import Task, search, sensitivity
    from quire.graph import capture, sites
    from quire.hardware import Design, emit
    from quire.precision import Plan, cast, correct, cost, exact, load, quantize, save
    from quire.software import apply, compile
    from quire.software.huggingface import QuireConfig

_HOMES = {
    "QuireError": "quire.errors",
    "Task": "quire.explore",
    "search": "quire.explore",
    "sensitivity": "quire.explore",
    "Design": "quire.hardware",
    "emit": "quire.hardware",
    "capture": "quire.graph",
    "sites": "quire.graph",
    "Plan": "quire.precision",
    "cast": "quire.precision",
    "correct": "quire.precision",
    "cost": "quire.precision",
    "exact": "quire.precision",
    "load": "quire.precision",
    "quantize": "quire.precision",
    "save": "quire.precision",
    "apply": "quire.software",
    "compile": "quire.software",
    "QuireConfig": "quire.software.huggingface",
}


def __getattr__(name: str) -> Any:
    if name == "formats":
        return import_module("quire.formats")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'quire' has no attribute {name!r}")


__version__ = "0.1.0"
__all__ = [
    "Design",
    "Plan",
    "QuireConfig",
    "QuireError",
    "Task",
    "apply",
    "capture",
    "cast",
    "compile",
    "correct",
    "cost",
    "emit",
    "exact",
    "formats",
    "load",
    "quantize",
    "save",
    "search",
    "sensitivity",
    "sites",
]
