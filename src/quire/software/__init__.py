"""The software stream: kernels, quantized linears of live modules, compilation, and their cost."""

from quire.software.apply import apply
from quire.software.assignment import Applied
from quire.software.cost import DeviceCost, DeviceCostModel, cost

__all__ = ["Applied", "DeviceCost", "DeviceCostModel", "apply", "cost"]
