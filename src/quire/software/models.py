"""The models by which compilation is measured: small, with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from quire.graph.capture import Examples


class Mlp(nn.Sequential):
    """Three layers with GELU; x is (batch, width)."""

    def __init__(self, width: int = 512) -> None:
        layers = (nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        super().__init__(nn.LayerNorm(width), *layers, nn.GELU(), nn.Linear(width, width))


class TransformerLayer(nn.Module):
    """A pre-norm layer; x is (batch, tokens, width).

    is_fused: whether attention is one call of PyTorch's, or product, scale, mask, softmax, product.
    """

    def __init__(self, width: int = 256, heads: int = 4, is_fused: bool = False) -> None:
        super().__init__()
        self.heads, self.is_fused = heads, is_fused
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attend(self.norm1(x)))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))

    def attend(self, x: Tensor) -> Tensor:
        """The heads' results, side by side."""
        parts = (f(x).unflatten(-1, (self.heads, -1)) for f in (self.q, self.k, self.v))
        q, k, v = (part.transpose(1, 2) for part in parts)
        return attention(q, k, v, self.is_fused).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Causal attention alone; q, k and v are (batch, heads, tokens, width)."""

    def __init__(self, is_fused: bool) -> None:
        super().__init__()
        self.is_fused = is_fused

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(q, k, v, self.is_fused)


def attention(q: Tensor, k: Tensor, v: Tensor, is_fused: bool) -> Tensor:
    """Causal attention, in one call or spelt out."""
    if is_fused:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    tokens = q.shape[-2]
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    visible = q.new_ones(tokens, tokens).tril().bool()
    return scores.masked_fill(~visible, float("-inf")).softmax(-1) @ v


class _Named(nn.Module):
    """A model whose named inputs are given by position."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self._names = model, names

    def forward(self, *inputs: Tensor) -> Any:
        return self.model(**dict(zip(self._names, inputs, strict=True)))


def with_positions(model: nn.Module, example_inputs: Examples) -> tuple[nn.Module, tuple[Any, ...]]:
    """A model and its inputs as a tuple, however they are given."""
    if not isinstance(example_inputs, Mapping):
        return model, example_inputs
    return _Named(model, tuple(example_inputs)), tuple(example_inputs.values())
