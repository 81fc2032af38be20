"""The hardware stream: a quantized graph as streaming SystemVerilog, simulated and synthesised."""

from quire.hardware.design import Design
from quire.hardware.design_costs import DesignCosts
from quire.hardware.emit import emit
from quire.hardware.run import Run
from quire.hardware.simulate import Stalls, Waveform

__all__ = ["Design", "DesignCosts", "Run", "Stalls", "Waveform", "emit"]
