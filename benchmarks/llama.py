"""A LLaMA-shaped decoder with random weights, and its two steps: a prompt, and one token.

The projections q, k, v and gate, up are one product each, as serving engines hold them. The cache
is a ring of the last `context` tokens, so that every step attends to all of its slots and needs no
mask. What lies between the products is compiled on a GPU, once for each batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
ROPE_BASE = 500_000.0


@dataclass(frozen=True)
class Size:
    """The sizes of a decoder: layers, features, heads of queries and of keys, tokens."""

    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int

    @property
    def head(self) -> int:
        return self.width // self.heads


LARGE = Size(32, 4096, 14336, 32, 8, 128_256, context=1024)  # Llama 3 8B: 8.03e9 parameters
SMALL = Size(2, 128, 256, 4, 2, 512, context=16)


class Layer(nn.Module):
    """The parameters of one decoder layer."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attention_norm = nn.Parameter(torch.empty(size.width))
        self.qkv_proj = nn.Linear(size.width, (size.heads + 2 * size.kv_heads) * size.head, False)
        self.o_proj = nn.Linear(size.width, size.width, bias=False)
        self.mlp_norm = nn.Parameter(torch.empty(size.width))
        self.gate_up_proj = nn.Linear(size.width, 2 * size.hidden, bias=False)
        self.down_proj = nn.Linear(size.hidden, size.width, bias=False)


class Decoder(nn.Module):
    """The parameters of the decoder, and its steps."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.embed = nn.Embedding(size.vocabulary, size.width)
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.layers))
        self.norm = nn.Parameter(torch.empty(size.width))
        self.head = nn.Linear(size.width, size.vocabulary, bias=False)

    def empty_cache(self, batch: int) -> list[Tensor]:
        """A layer's keys and, behind them, its values: (batch, 2 kv_heads, context, head)."""
        s = self.size
        shape = (batch, 2 * s.kv_heads, s.context, s.head)
        return [torch.zeros(shape, **_like(self)) for _ in self.layers]

    def step(self, tokens: Tensor, position: Tensor, cache: list[Tensor]) -> Tensor:
        """Logits (batch, vocabulary) after one more token (batch,) at a position (1,)."""
        slot = position % self.size.context
        return self._run(self.embed(tokens), position, cache, self._attend_to_cache, slot)

    def prefill(self, tokens: Tensor, cache: list[Tensor]) -> Tensor:
        """Logits (batch, vocabulary) after a prompt (batch, n) of at most `context` tokens."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return self._run(self.embed(tokens), positions, cache, self._attend_to_prompt, positions)

    def _run(
        self, x: Tensor, positions: Tensor, cache: list[Tensor], attend: Callable, slots: Tensor
    ) -> Tensor:
        size, shape = self.size, x.shape[:-1]
        cos, sin = rotation(positions, size.head)
        delta = torch.zeros_like(x)
        for layer, held in zip(self.layers, cache, strict=True):
            x, h = add_norm(x, delta, layer.attention_norm)
            heads = layer.qkv_proj(h).unflatten(-1, (-1, size.head))
            q, kv = rotate(heads, cos, sin, size.heads, size.kv_heads)
            kv = kv.reshape(shape[0], -1, 2 * size.kv_heads, size.head).transpose(1, 2)
            held.index_copy_(2, slots, kv)
            delta = layer.o_proj(attend(q, kv, held).reshape(*shape, size.width))
            x, h = add_norm(x, delta, layer.mlp_norm)
            delta = layer.down_proj(gated(layer.gate_up_proj(h)))
        _, h = add_norm(x, delta, self.norm)
        return self.head(h if h.ndim == 2 else h[:, -1])

    def _attend_to_cache(self, q: Tensor, kv: Tensor, held: Tensor) -> Tensor:
        """One query a head: those that share a key are its queries."""
        keys, values = held.chunk(2, dim=1)
        grouped = q.unflatten(1, (self.size.kv_heads, -1))
        return F.scaled_dot_product_attention(grouped, keys, values)

    def _attend_to_prompt(self, q: Tensor, kv: Tensor, held: Tensor) -> Tensor:
        keys, values = kv.chunk(2, dim=1)
        options: dict[str, Any] = {"is_causal": True, "enable_gqa": True}
        return F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, **options).transpose(
            1, 2
        )


def compiled_on_gpu(function: Callable) -> Callable:
    """Fused by Inductor where there is a GPU."""
    return torch.compile(function, dynamic=False) if torch.cuda.is_available() else function


@compiled_on_gpu
def add_norm(x: Tensor, delta: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The residual sum, and its RMS norm."""
    total = x + delta
    wide = total.float()
    normal = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON)
    return total, normal.to(x.dtype) * weight


@compiled_on_gpu
def rotate(
    heads: Tensor, cos: Tensor, sin: Tensor, queries: int, keys: int
) -> tuple[Tensor, Tensor]:
    """Queries (..., queries, head), and keys with values (..., 2 keys, head), rotated (RoPE)."""
    turned, values = heads.split([queries + keys, keys], dim=-2)
    first, second = turned.float().chunk(2, dim=-1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    q, k = turned.to(heads.dtype).split([queries, keys], dim=-2)
    return q, torch.cat([k, values], dim=-2)


@compiled_on_gpu
def gated(x: Tensor) -> Tensor:
    """SiLU of the first half times the second."""
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up


def rotation(positions: Tensor, head: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (positions, 1, head / 2), to broadcast against (..., heads, head / 2)."""
    steps = torch.arange(0, head, 2, device=positions.device) / head
    angles = positions[:, None, None] * ROPE_BASE**-steps
    return angles.cos(), angles.sin()


@torch.no_grad()
def random_decoder(size: Size, device: torch.device, dtype: torch.dtype, seed: int = 0) -> Decoder:
    """A decoder with random weights, each made on the device."""
    generator = torch.Generator(device).manual_seed(seed)
    with torch.device("meta"):
        model = Decoder(size).to(dtype)
    model.to_empty(device=device)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
    return model.requires_grad_(False).eval()


def _like(model: Decoder) -> dict[str, Any]:
    return {"dtype": model.norm.dtype, "device": model.norm.device}
