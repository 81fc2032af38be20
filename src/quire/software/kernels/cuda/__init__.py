"""CUDA kernels on CuTe, built for the device at hand; importing this module registers them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from quire.formats import Block, Format
from quire.software.kernels import Case, Kernel, Layout, Weight, register, register_layout
from quire.software.kernels.cuda import cast, layout, linear
from quire.software.kernels.cuda.build import can_build
from quire.software.kernels.cuda.configs import CONFIGS
from quire.software.kernels.cuda.linear import ARCHITECTURES, Config

TILED = "tiled"


def _takes(case: Case) -> bool:
    """Whether the CUDA kernels multiply by a weight of this case."""
    return (
        case.capability in ARCHITECTURES
        and case.dtype == torch.bfloat16
        and layout.is_tileable(case.format)
        and can_build()
    )


def _supports(config: Config) -> Callable[[Case], bool]:
    return lambda case: _takes(case) and config.runs_on(case.capability)


def _run(
    config: Config, x: Tensor, weight: Weight, bias: Tensor | None, format: Format, n: int
) -> Tensor:
    assert isinstance(format, Block)
    return linear.run(config, x, weight, bias, format, n)


register_layout(Layout(TILED, _takes, layout.tile, layout.untile))
for _config in CONFIGS:
    register(Kernel(str(_config), "mx_linear", _supports(_config), partial(_run, _config), TILED))
cast.register()
