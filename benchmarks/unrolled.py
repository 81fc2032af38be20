"""Lookup tables and cycles of an unrolled MLP: `emit(q, path, "unroll")` against da4ml.

The jet-tagging MLP 16-64-32-32-5 with random weights, half of them zero: 8-bit weights and
activations, and 4-bit weights with 6-bit activations. Both sides get the same weights and formats,
and both circuits go through the same Yosys (`synth_xilinx -family xcup`, no DSP). da4ml rounds half
up and saturates, the nearest to our cast that it has (half to even); "wrapping" is its cheaper
truncation without saturation, which computes something else. Ours has its handshake and AXI slices.
Needs `quire[hw,da]`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import record
from torch import Tensor, nn

import quire
from quire.hardware.toolchain import YOSYS, run_yosys

SIZES = (16, 64, 32, 32, 5)
NETWORKS = {"int8": (8, 8), "int4": (4, 6)}
YOSYS_SCRIPT = (
    "scratchpad -set abc9.verify 0\n"  # a proof of the mapping, which takes longer than all else
    "synth_xilinx -family xcup -top top -flatten -noiopad -noclkbuf -nodsp\n"
)


@dataclass(frozen=True)
class Network:
    """weights: integers (N, K) of each layer, in units of 2^(1 - bits). fractions: bits after the
    binary point of the input, and of each layer's output."""

    bits: int
    activation_bits: int
    weights: list[Tensor]
    fractions: list[int]

    @staticmethod
    def random(bits: int, activation_bits: int, x: Tensor) -> Network:
        """Weights from a fixed seed; the largest activation of `x` is in range."""
        generator = torch.Generator().manual_seed(0)
        top = 2 ** (bits - 1)
        weights: list[Tensor] = []
        fractions = [_fraction(x, activation_bits)]
        for k, n in itertools.pairwise(SIZES):
            drawn = torch.randint(1 - top, top, (n, k), generator=generator)
            weights.append(drawn * (torch.rand((n, k), generator=generator) < 0.5))
            x = x @ weights[-1].float().T / top
            if n != SIZES[-1]:
                x = x.relu()
            fractions.append(_fraction(x, activation_bits))
        return Network(bits, activation_bits, weights, fractions)


def _fraction(x: Tensor, bits: int) -> int:
    return bits - 1 - math.ceil(math.log2(float(x.abs().max())))


def ours(network: Network, x: Tensor, folder: Path) -> quire.hardware.Design:
    """The network, emitted."""
    layers: list[nn.Module] = []
    for weight in network.weights:
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight = nn.Parameter(weight.float() / 2 ** (network.bits - 1))
        layers += [linear, nn.ReLU()]
    graph = quire.capture(nn.Sequential(*layers[:-1]).eval(), (x[:8],))
    formats = [f"fixed({network.activation_bits},{f})" for f in network.fractions]
    plan = quire.Plan.uniform(graph, "fp32")
    for i, name in enumerate(range(0, 2 * len(network.weights), 2)):
        plan[f"{name}.weight"] = f"fixed({network.bits},{network.bits - 1})"
        plan[f"{name}.input"] = formats[i]
    plan["output.0"] = formats[-1]
    q = quire.quantize(graph, plan.for_hardware(graph, (x,)))
    return quire.emit(q, folder, "unroll")


def da4ml(network: Network, wrapping: bool, folder: Path) -> int:
    """Write da4ml's Verilog; its latency in cycles."""
    from da4ml.codegen.rtl.verilog import pipeline_logic_gen
    from da4ml.trace import FixedVariableArray, HWConfig, comb_trace, to_pipeline
    from da4ml.trace.ops import quantize, relu

    bits = network.activation_bits
    modes = {} if wrapping else {"overflow_mode": "SAT", "round_mode": "RND"}
    f = network.fractions[0]
    ones, whole, fraction = (np.full(SIZES[0], v) for v in (1, bits - 1 - f, f))
    x = FixedVariableArray.from_kif(ones, whole, fraction, hwconf=HWConfig(1, -1, -1))
    h: Any = x
    for weight, f in zip(network.weights, network.fractions[1:], strict=True):
        h = h @ (weight.numpy().T / 2 ** (network.bits - 1))
        if len(weight) != SIZES[-1]:
            h = relu(h)
        ones, whole, fraction = (np.full(len(weight), v) for v in (1, bits - 1 - f, f))
        h = quantize(h, ones, whole, fraction, **modes)
    pipeline = to_pipeline(comb_trace(x, h), 5, verbose=False)
    folder.mkdir()
    for name, text in pipeline_logic_gen(pipeline, "top").items():
        (folder / f"{name}.v").write_text(text)
    return len(pipeline.solutions) + 1  # a register before each stage, and one at the end


def synthesize(folder: Path, sources: list[str]) -> dict[str, int]:
    """LUTs (inverters are drawn into what they feed) and flip-flops."""
    reads = "".join(f"read_verilog -sv {source}\n" for source in sources)
    run_yosys(
        reads + YOSYS_SCRIPT + "tee -q -o stat.json stat -json\n", folder, folder / "yosys.log"
    )
    text = (folder / "stat.json").read_text()
    cells = Counter(json.loads(text[text.index("{") :])["design"]["num_cells_by_type"])
    kinds = {"LUT": ("LUT", "SRL", "RAM"), "FF": ("FD",), "DSP": ("DSP",)}
    return {
        what: sum(n for kind, n in cells.items() if kind.startswith(starts))
        for what, starts in kinds.items()
    }


def _da4ml_sources() -> list[str]:
    import da4ml

    assert da4ml.__file__ is not None
    folder = Path(da4ml.__file__).parent / "codegen/rtl/verilog/source"
    return [str(file) for file in sorted(folder.glob("*.v")) if file.stem != "lookup_table"]


def compare(name: str, folder: Path) -> dict[str, Any]:
    """Both circuits of one network."""
    x = torch.randn(1024, SIZES[0], generator=torch.Generator().manual_seed(1))
    network = Network.random(*NETWORKS[name], x)
    design = ours(network, x, folder / f"{name}_quire")
    assert design.folder is not None
    run = design.simulate(x)
    sources = json.loads((design.folder / "manifest.json").read_text())["sources"]
    rows: dict[str, Any] = {
        "quire": {"cycles": run.latency, "interval": run.interval}
        | synthesize(design.folder, sources)
    }
    print(name, rows["quire"], flush=True)
    for kind in ("da4ml", "da4ml, wrapping"):
        path = folder / f"{name}_{kind.replace(', ', '_')}"
        cycles = da4ml(network, kind != "da4ml", path)
        files = [*_da4ml_sources(), *sorted(file.name for file in path.glob("*.v"))]
        rows[kind] = {"cycles": cycles, "interval": 1.0} | synthesize(path, files)
        print(name, kind, rows[kind], flush=True)
    rows["LUT, quire / da4ml"] = round(rows["quire"]["LUT"] / rows["da4ml"]["LUT"], 4)
    return rows


def main() -> None:
    """Measure and record."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    options.add_argument("--folder", type=Path, help="where the circuits are left")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        figures: dict[str, Any] = {n: compare(n, folder) for n in given.networks}
    record("unrolled", {"yosys": YOSYS.version, "da4ml": version("da4ml"), **figures})


if __name__ == "__main__":
    main()
