"""The software stream: kernels, quantized linears of live modules, compilation, and their cost."""

from quire.software.applied import Applied
from quire.software.apply import apply
from quire.software.compile import Compiled, compile
from quire.software.cost import DeviceCost, DeviceCostModel, cost, device_costs
from quire.software.report import Report

__all__ = [
    "Applied",
    "Compiled",
    "DeviceCost",
    "DeviceCostModel",
    "Report",
    "apply",
    "compile",
    "cost",
    "device_costs",
]
