"""The software stream: kernels, quantized linears of live modules, compilation, and their cost."""
