"""Number formats: scalar families, blocks over them, presets, and the strings that name them.

A family is one module of this package; it registers its constructor with `registry.family`, and
every module is imported here, so that a new one needs no other edit.
"""

from importlib import import_module
from pkgutil import iter_modules

from quire.formats.base import Encoded, Format, Scalar
from quire.formats.binary import Binary, Ternary
from quire.formats.block import Block, bfp, bl, bm
from quire.formats.denormed import DenormedMinifloat
from quire.formats.fixed import Fixed, UFixed
from quire.formats.log import Log
from quire.formats.minifloat import Minifloat
from quire.formats.parsing import parse
from quire.formats.pow2 import Pow2
from quire.formats.presets import PRESETS as presets
from quire.formats.registry import FAMILIES as families
from quire.formats.table import Table

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Binary",
    "Block",
    "DenormedMinifloat",
    "Encoded",
    "Fixed",
    "Format",
    "Log",
    "Minifloat",
    "Pow2",
    "Scalar",
    "Table",
    "Ternary",
    "UFixed",
    "bfp",
    "bl",
    "bm",
    "families",
    "parse",
    "presets",
]
