"""Precision: plans, their costs, graphs with the casts that plans ask for, and checkpoints."""

from quire.precision.calibrate import calibrate, fit_fixed, fit_integer, observe
from quire.precision.cast import cast
from quire.precision.checkpoint import load, save
from quire.precision.copying import copy_graph
from quire.precision.correct import correct
from quire.precision.cost import Cost, CostModel, cost
from quire.precision.entry import Entry
from quire.precision.exact import exact
from quire.precision.maximum import Maximum
from quire.precision.plan import Plan
from quire.precision.quantize import quantize
from quire.precision.switchable import Switchable

__all__ = [
    "Cost",
    "CostModel",
    "Entry",
    "Maximum",
    "Plan",
    "Switchable",
    "calibrate",
    "cast",
    "copy_graph",
    "correct",
    "cost",
    "exact",
    "fit_fixed",
    "fit_integer",
    "load",
    "observe",
    "quantize",
    "save",
]
