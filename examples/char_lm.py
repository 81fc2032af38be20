"""A character language model, searched at several sizes and trained: bits per character (bpc)."""

from functools import partial
from tempfile import TemporaryDirectory

import torch
import typer
from budgets import search_budgets, train_best
from candidates import fine_candidates
from characters import CONTEXT, CharacterModel, load_texts, measure, nats, windows
from comparison import Figure, as_table, compare
from rich import print
from torch import nn
from training import RATE, fit

import quire

BOUNDS = (4.5, 4.0, 3.5)  # average bits
QAT_RATE = 2e-3


def main(
    steps: int = 1500, trials: int = 200, qat_steps: int = 1000, sensitivities: str = "kl"
) -> list[Figure]:
    """Train, search, train the best; print bits per character by average bits, and return them."""
    torch.set_num_threads(1)  # the tensors are too small to share
    torch.manual_seed(0)
    data, validation, test, characters = load_texts()
    model = CharacterModel(characters)

    def train(q: nn.Module, steps: int, rate: float = RATE) -> None:
        fit(
            q,
            lambda: nats(q, windows(data, torch.randint(len(data) - CONTEXT, (32,)))),
            steps,
            rate,
        )

    train(model, steps)
    x = windows(data)[:, :-1]
    task = quire.Task(model.eval(), (x[:2],), partial(measure, text=validation), (x,))
    graph = quire.capture(model, (x[:2],))
    tested = partial(measure, text=test)
    with TemporaryDirectory() as folder:
        formats = fine_candidates(graph)
        study = search_budgets(task, formats, "bpc", BOUNDS, trials, folder, sensitivities)
    figures = compare(study, graph, tested, BOUNDS, (x,))
    figures += train_best(
        study, task, BOUNDS, partial(train, steps=qat_steps, rate=QAT_RATE), tested
    )
    print(as_table(figures))
    return figures


if __name__ == "__main__":
    typer.run(main)
