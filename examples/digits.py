"""The digits ViT: a vision transformer of 18 thousand weights, and its task for a search.

Try it in this folder: `quire plan sites digits:task`.
"""

from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from training import fit
from transformer import Layer

from quire import Task

WEIGHTS = Path(__file__).parents[1] / "runs" / "digits.safetensors"
Split = tuple[Tensor, Tensor]  # images as 16 patches of 4 pixels, (n, 16, 4); labels (n,)


def load_splits(seed: int, dtype: torch.dtype = torch.float32) -> tuple[Split, Split, Split]:
    """Train, validation and test: 1037, 400 and 360 of the images that scikit-learn brings."""
    images, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    x = images.to(dtype).view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4) / 8 - 1
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train, validation, test = ((x[part], labels[part]) for part in order.split((1037, 400, 360)))
    return train, validation, test


class VisionTransformer(nn.Module):
    """Patch embedding, two layers, the mean over the tokens, classifier."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed, self.classifier = nn.Linear(4, width), nn.Linear(width, 10)
        self.position = nn.Parameter(0.1 * torch.randn(16, width))
        self.layers = nn.Sequential(Layer(width, heads=4), Layer(width, heads=4))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.embed(x) + self.position)
        return self.classifier(self.norm(x).mean(1))


def train(model: nn.Module, epochs: int, data: Split, rate: float = 4e-3) -> None:
    """Train in place, on images with noise."""
    images, labels = data

    def loss() -> Tensor:
        batch = torch.randint(len(labels), (64,))
        noisy = images[batch] + 0.5 * torch.randn(64, 16, 4)
        return functional.cross_entropy(model(noisy), labels[batch], label_smoothing=0.1)

    fit(model, loss, epochs * len(labels) // 64, rate)


def score(model: nn.Module, data: Split) -> dict[str, float]:
    """Cross entropy in nats, and the share of right answers."""
    logits, labels = model(data[0]), data[1]
    right = (logits.argmax(1) == labels).float().mean()
    return {"loss": functional.cross_entropy(logits, labels).item(), "accuracy": right.item()}


def task(
    seed: int = 0, epochs: int = 80, weights: Path = WEIGHTS, dtype: torch.dtype = torch.float32
) -> Task:
    """The model, trained once and then read from `weights`, scored on the validation split."""
    data, validation, _ = load_splits(seed, dtype)
    torch.manual_seed(seed)
    model = VisionTransformer().to(dtype)
    if not weights.exists():
        train(model, epochs, data)
        weights.parent.mkdir(parents=True, exist_ok=True)
        save_file(model.state_dict(), weights)
    model.load_state_dict(load_file(weights))
    x, retrain = data[0], partial(train, data=data, rate=1e-3)  # from weights that are good
    return Task(model.eval(), (x[:2],), partial(score, data=validation), (x[:256],), retrain)
