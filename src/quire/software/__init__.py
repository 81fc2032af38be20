"""The software stream: kernels, quantized linears of live modules, compilation, and their cost."""

from quire.software.apply import apply
from quire.software.assignment import Applied

__all__ = ["Applied", "apply"]
