"""Nightly: nvcc takes every CUDA source, for every architecture and element."""

import ctypes
from itertools import product

import pytest
import torch

from quire.formats import Block
from quire.software.kernels.cuda import cast
from quire.software.kernels.cuda.build import build, can_build
from quire.software.kernels.cuda.linear import ARCHITECTURES, ELEMENTS, Config, Warpgroups, Warps
from quire.software.mx.layout import E8M0
from quire.software.mx.layout import ELEMENTS as PLAIN_ELEMENTS

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not can_build(), reason="needs nvcc and nvidia-cutlass"),
]
CAPABILITIES = ((8, 0), (8, 9), (9, 0))
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
CONFIGS: tuple[Config, ...] = (
    Warps(tokens=8, stages=2),
    Warpgroups(tokens=64, stages=4, splits=2, resident=2),
)
LINEARS = [
    (config, element, capability)
    for config, element, capability in product(CONFIGS, ELEMENTS, CAPABILITIES)
    if config.runs_on(capability)
]
CASTS = [
    (element, DTYPES[index % 3], capability)
    for index, element in enumerate(PLAIN_ELEMENTS)
    for capability in CAPABILITIES
]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("QUIRE_CACHE", str(tmp_path))


@pytest.mark.parametrize(("config", "element", "capability"), LINEARS, ids=str)
def test_the_linear_compiles(config, element, capability):
    macros = config.defines(Block(element, 32, E8M0), capability)
    library = build(config.source, macros, ARCHITECTURES[capability])
    assert ctypes.CDLL(str(library)).quire_mx_linear


@pytest.mark.parametrize(("element", "dtype", "capability"), CASTS, ids=str)
def test_the_casts_compile(element, dtype, capability):
    macros = cast.defines(Block(element, 32, E8M0), dtype)
    library = ctypes.CDLL(str(build(cast.SOURCE, macros, ARCHITECTURES[capability])))
    assert library.quire_mx_quantize
    assert library.quire_mx_dequantize
    assert library.quire_mx_quantize_both
