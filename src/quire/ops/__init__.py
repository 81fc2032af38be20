"""The known ops, one module per op or family; every module of this package is imported, so that a
new one is registered by being here."""

from importlib import import_module
from pkgutil import iter_modules

from quire.ops.base import Op, Operand, all_ops, op_for_target, op_named, op_of, register

__all__ = ["Op", "Operand", "all_ops", "op_for_target", "op_named", "op_of", "register"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
