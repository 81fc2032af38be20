"""A character language model on the text of Python's own manual: bits per character (bpc)."""

from functools import partial
from math import log
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory

import torch
import typer
from candidates import candidates
from comparison import Figure, as_table, compare
from rich import print
from torch import Tensor, nn
from torch.nn import functional
from training import fit
from transformer import Layer

import quire

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


def nats(model: nn.Module, text: Tensor, starts: Tensor) -> Tensor:
    """The mean cross entropy of the characters that follow those from `starts` on."""
    windows = text[starts[:, None] + torch.arange(CONTEXT + 1)]
    return functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def measure(model: nn.Module, text: Tensor) -> dict[str, float]:
    """Bits per character on 64 windows spread over a text."""
    starts = torch.linspace(0, len(text) - CONTEXT - 1, 64).long()
    return {"bpc": nats(model, text, starts).item() / log(2)}


def main(steps: int = 1500, trials: int = 300) -> list[Figure]:
    """Train, search, print bits per character by average bits, and return them."""
    torch.set_num_threads(1)  # the tensors are too small to share
    torch.manual_seed(0)
    data, validation, test, characters = load_texts()
    model = CharacterModel(characters)
    fit(model, lambda: nats(model, data, torch.randint(len(data) - CONTEXT, (32,))), steps)
    x = data[: 64 * CONTEXT].view(64, CONTEXT)
    task = quire.Task(model.eval(), (x[:2],), partial(measure, text=validation), (x,))
    graph = quire.capture(model, (x[:2],))
    goals, limits = {"bpc": "min", "bits": "min"}, {"bits": 6.5}
    with TemporaryDirectory() as folder:
        found = quire.search(
            task, candidates(graph), goals, limits=limits, trials=trials, storage=f"{folder}/study"
        )
    figures = compare(found, graph, partial(measure, text=test), (4.5, 4.0, 3.5))
    print(as_table(figures))
    return figures


if __name__ == "__main__":
    typer.run(main)
