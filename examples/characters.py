"""The character model, a causal transformer, and its text: the manual of Python."""

from math import log
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformer import Layer

CONTEXT, WIDTH = 64, 64


class CharacterModel(nn.Module):
    """Logits of the next character at each place of a text, (batch, CONTEXT, characters)."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, WIDTH)
        self.position = nn.Parameter(0.1 * torch.randn(CONTEXT, WIDTH))
        self.layers = nn.Sequential(*(Layer(WIDTH, heads=4, causal=True) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, characters)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.layers(self.embed(x) + self.position)))


def load_texts() -> tuple[Tensor, Tensor, Tensor, int]:
    """Train, validation and test as numbered characters, and how many characters there are."""
    text = "\n".join(text for _, text in sorted(topics.items()))
    alphabet = sorted(set(text))
    codes = torch.tensor([alphabet.index(character) for character in text])
    eighth = len(codes) // 8
    return codes[: -2 * eighth], codes[-2 * eighth : -eighth], codes[-eighth:], len(alphabet)


def windows(text: Tensor, starts: Tensor | None = None) -> Tensor:
    """CONTEXT + 1 characters from each start on; without starts, 64 windows over the text."""
    if starts is None:
        starts = torch.linspace(0, len(text) - CONTEXT - 1, 64).long()
    return text[starts[:, None] + torch.arange(CONTEXT + 1)]


def nats(model: nn.Module, x: Tensor) -> Tensor:
    """The mean cross entropy of each character but the first, from those before it."""
    return functional.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())


def measure(model: nn.Module, text: Tensor) -> dict[str, float]:
    """Bits per character on windows spread over a text."""
    return {"bpc": nats(model, windows(text)).item() / log(2)}
