"""Signal to quantization noise of the formats in docs/numerics.md: 4096 x 1024 of N(0, 0.02)."""

from __future__ import annotations

import math

import torch
from record import record

from quire.formats import parse

FORMATS = [
    "mxint8",
    "mxint6",
    "mxint4",
    "bm(e=2,m=3,scale_bits=8,size=16)",
    "bm(e=2,m=1,scale_bits=8,size=16)",
    "bfp(4,scale_bits=8,size=16)",
    "bl(4,scale_bits=8,size=16)",
    "nvfp4",
    "mxfp4",
    "int4_g128",
    "uint4_g128",
    "nf4",
]


def main() -> None:
    x = 0.02 * torch.randn(4096, 1024, generator=torch.Generator().manual_seed(0))
    record("signal_to_noise", {"dB": {name: decibels(name, x) for name in FORMATS}})


def decibels(name: str, x: torch.Tensor) -> float:
    noise = (parse(name).quantize(x) - x).double().square().sum()
    return round(10 * math.log10(x.double().square().sum() / noise), 2)


if __name__ == "__main__":
    main()
