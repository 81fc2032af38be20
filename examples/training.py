"""Training: AdamW on one cycle of learning rates."""

from collections.abc import Callable

import torch
from rich.progress import track
from torch import Tensor, nn


def fit(model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float = 4e-3) -> None:
    """Train in place; `loss` is computed anew at each step, and a progress line shows them."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for _ in track(range(steps), "training"):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()
