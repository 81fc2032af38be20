"""Emit a quantized graph as synthesizable hardware, simulate it and measure it."""
