"""The digits MLP: three linear layers that become hardware, and its task for a search.

Try it in this folder: `quire search digits_mlp:task --trials 60 --limit bits=4.5`.
"""

from functools import partial
from itertools import pairwise

import torch
from digits import Split, load_splits, score
from torch import Tensor, nn
from torch.nn import functional
from training import fit

from quire import Task

FORMATS = [
    "fixed(3..6,fitted)",
    "mxint3",
    "mxint4",
    "mxint5",
    "mxfp4",
    "bfp(3|4,scale_bits=4,size=16)",
    "bl(4,scale_bits=8,size=16)",
]


def splits(seed: int) -> tuple[Split, Split, Split]:
    """Train, validation and test, each image as 64 numbers."""
    train, validation, test = ((x.flatten(1), y) for x, y in load_splits(seed))
    return train, validation, test


def task(seed: int = 0, epochs: int = 80, hidden: tuple[int, ...] = (32, 32)) -> Task:
    """The model, trained in seconds, scored on the validation split.

    hidden: sizes of the layers between.
    """
    (images, labels), validation, _ = splits(seed)
    torch.manual_seed(seed)
    sizes = pairwise((64, *hidden, 10))
    layers = [layer for pair in sizes for layer in (nn.Linear(*pair), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])

    def loss() -> Tensor:
        batch = torch.randint(len(labels), (64,))
        noisy = images[batch] + 0.3 * torch.randn(64, 64)
        return functional.cross_entropy(model(noisy), labels[batch], label_smoothing=0.1)

    fit(model, loss, steps=epochs * len(labels) // 64)
    return Task(model.eval(), (images[:2],), partial(score, data=validation), (images[:256],))
