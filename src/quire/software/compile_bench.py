"""The comparison of ways to compile, on whatever devices there are, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quire.software.compile import compile
from quire.software.generated import kernel_calls, run_and_read
from quire.software.measure import FORMAT, WAYS, Figures, Inputs, compare
from quire.software.models import Attention, Mlp, TransformerLayer

TOKENS = {"cpu": (128, 512, 2048), "cuda": (128, 1024, 4096)}
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}
ATTENTION_WAYS = ("eager", "torch.compile, default", "quire.compile")
ATTENTION_SHARE = 0.3
"""Of the time: the rest is for whole models."""


def devices() -> list[str]:
    """The kinds of device of this machine."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def default_models() -> dict[str, tuple[nn.Module, Inputs]]:
    """{name: model, inputs} of the models that every comparison has."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {
            "MLP, 64 x 512": (Mlp(), (torch.randn(64, 512, generator=generator),)),
            "layer, 8 x 128 x 256": (
                TransformerLayer(),
                (torch.randn(8, 128, 256, generator=generator),),
            ),
        }


def run(
    models: Mapping[str, tuple[nn.Module, Inputs]],
    device: str,
    *,
    repeats: int = 30,
    seconds: float = float("inf"),
    tell: Callable[[Figures], None] = lambda figures: None,
) -> dict[str, Any]:
    """The figures of one device: of `models` in every way, and of naive and fused attention.

    seconds: about how long it may take.
    """
    dtype, share = DTYPES[device], ATTENTION_SHARE
    options: dict[str, Any] = {"dtype": dtype, "repeats": repeats, "tell": tell}
    ways = {name: WAYS[name] for name in ATTENTION_WAYS}
    attention = compare(_attention(device), device, ways=ways, seconds=share * seconds, **options)
    whole = compare(models, device, seconds=(1 - share) * seconds, **options)
    return {
        "device": device,
        "kernels of casts": kernels_of_casts(device, dtype),
        "threads": torch.get_num_threads(),
        "dtype": str(dtype).removeprefix("torch."),
        "models": whole.to_json(),
        "attention": attention.to_json(),
    }


@torch.no_grad()
def kernels_of_casts(device: str, dtype: torch.dtype) -> list[str]:
    """The kernels of norm, cast, linear, GELU, cast, linear: casts are part of others."""
    model = nn.Sequential(
        nn.LayerNorm(512), nn.Linear(512, 1024), nn.GELU(), nn.Linear(1024, 512)
    ).to(device, dtype)
    torch.compiler.reset()
    compiled = compile(model.eval(), FORMAT)
    _, codes = run_and_read(compiled, torch.randn(64, 512, device=device, dtype=dtype))
    return kernel_calls(codes)


def _attention(device: str) -> dict[str, tuple[nn.Module, Inputs]]:
    """Naive and fused attention, 8 heads of 64, over some numbers of tokens."""
    return {
        f"{tokens} tokens, {'fused' if is_fused else 'naive'}": (
            Attention(is_fused),
            _heads(tokens),
        )
        for tokens in TOKENS[device]
        for is_fused in (False, True)
    }


def _heads(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    q, k, v = (torch.randn(1, 8, tokens, 64, generator=generator) for _ in range(3))
    return q, k, v
