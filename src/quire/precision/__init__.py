"""Precision: plans, their costs, and graphs with the casts that plans ask for."""

from quire.precision.cast import cast
from quire.precision.cost import Cost, CostModel, cost
from quire.precision.entry import Entry
from quire.precision.plan import Plan
from quire.precision.quantize import quantize

__all__ = ["Cost", "CostModel", "Entry", "Plan", "cast", "cost", "quantize"]
