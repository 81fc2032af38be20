"""When compiling pays: eager, torch.compile and quire.compile, first call and later ones, and naive
against fused attention, on the CPU and on a GPU where there is one.

The models are those of `quire bench compile`, and the digits vision transformer of the examples,
with random weights. On a GPU they run in bfloat16. Without --device a GPU is measured where there
is one, else the CPU.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, record
from torch import nn

from quire.software.compile_bench import default_models, devices, run
from quire.software.measure import Inputs
from quire.software.models import TransformerLayer


class DigitsTransformer(nn.Module):
    """That of examples/digits.py, its attention spelt out; x is (batch, 16, 4)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed, self.classifier = nn.Linear(4, width), nn.Linear(width, 10)
        self.position = nn.Parameter(0.1 * torch.randn(16, width))
        self.layers = nn.Sequential(TransformerLayer(width), TransformerLayer(width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.norm(self.layers(self.embed(x) + self.position)).mean(1))


def models() -> dict[str, tuple[nn.Module, Inputs]]:
    torch.manual_seed(0)
    digits = (DigitsTransformer().eval(), (torch.randn(64, 16, 4),))
    return {"digits ViT, 64 images": digits, **default_models()}


def table(rows: list[dict[str, Any]]) -> str:
    """The figures of one device as Markdown."""
    lines = [
        "| model | run by | first call | a later one | on the GPU | pays after | kernels | memory |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in sorted(rows, key=lambda row: row["model"]):
        pays = row["break_even"]
        cells = (
            row["model"],
            row["way"],
            f"{row['first_s']:.2f} s",
            f"{row['steady_s'] * 1e3:.3g} ms",
            f"{busy * 1e3:.3g} ms" if (busy := row.get("device_s")) else "-",
            "never" if pays is None else f"{pays:,.0f} calls",
            f"{row['kernels']}",
            f"{row['peak_bytes'] / 1e6:.3g} MB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=devices()[-1])
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=140, help="about how long it may take")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--table", type=Path, help="print a result as Markdown, measure nothing")
    options = parser.parse_args()
    if options.table:
        figures = json.loads(options.table.read_text())["figures"]
        for group in ("models", "attention"):
            print(table(figures[group]["figures"]), "\n")
        return
    torch.set_num_threads(options.threads)
    figures = run(
        models(), options.device, repeats=options.repeats, seconds=options.seconds, tell=print
    )
    record("compile", figures, options.out)


if __name__ == "__main__":
    main()
