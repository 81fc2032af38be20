"""Training: AdamW on one cycle of learning rates."""

from collections.abc import Callable

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

RATE = 4e-3  # the highest, for weights from scratch


def fit(model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float = RATE) -> None:
    """Train in place; `loss` is computed anew at each step, and a progress line shows them."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for _ in track(range(steps), "training"):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def distillation(model: nn.Module, teacher: nn.Module, x: Tensor) -> Tensor:
    """KL of a model's outputs as logits from a teacher's, nats a row."""
    with torch.no_grad():
        wanted = teacher(x).flatten(0, -2).log_softmax(-1)
    found = model(x).flatten(0, -2).log_softmax(-1)
    return functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
