"""What a search adds to a trial besides running the model: milliseconds a trial.

The model has the shape of the digits ViT with random weights (width 32, 2 layers, 4 heads, MLP 64,
16 tokens), evaluated on 360 images. "quire" is the plan, its cost, and the switch of the graph's
formats, with the costs of the plans that were checked against the limit. Times are means over the
trials of one search, the run's a median, with the casts and, for fp32, without; on one thread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from record import record
from torch import Tensor, nn
from torch.nn import functional

from quire.explore import Study, Task, search

WIDTH, HEADS, TOKENS, IMAGES, TRIALS = 32, 4, 16, 360, 100
FORMATS = [
    "mxint3",
    "mxint4",
    "mxint6",
    "bfp(4)",
    "mxfp4",
    "mxfp6_e2m3",
    "bl(4)",
    "fixed(4,fitted)",
]


class Layer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm1(x)
        heads = [p(n).unflatten(2, (HEADS, -1)).transpose(1, 2) for p in (self.q, self.k, self.v)]
        attention = functional.scaled_dot_product_attention(*heads)
        x = x + self.out(attention.transpose(1, 2).flatten(2))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


def main() -> None:
    torch.set_num_threads(1)  # so that a busy machine does not stall one thread on the other
    torch.manual_seed(0)
    layers = [Layer() for _ in range(2)]
    model = nn.Sequential(nn.Linear(4, WIDTH), *layers, nn.Linear(WIDTH, 10)).eval()
    x = torch.randn(IMAGES, TOKENS, 4)
    y = model(x).detach()
    seconds: list[float] = []

    def evaluate(q: nn.Module) -> dict[str, float]:
        started = time.perf_counter()
        error = float((q(x) - y).square().mean())
        seconds.append(time.perf_counter() - started)
        return {"error": error}

    task = Task(model, (x[:2],), evaluate, calibration=(x,))
    figures: dict[str, dict[str, float]] = {}
    for sampler in ("guided", "tpe", "nsga2", "random"):
        seconds.clear()
        with tempfile.TemporaryDirectory() as folder:
            study = run(task, sampler, f"{folder}/study.journal")
        figures[sampler] = {
            name: round(1e3 * spent / len(study.trials), 2) for name, spent in study.timing.items()
        }
        figures[sampler]["run, median"] = round(1e3 * statistics.median(seconds[1:]), 2)
    figures["fp32"] = {"run, median": round(1e3 * median(lambda: evaluate(model)), 2)}
    record("search_overhead", figures)


def run(task: Task, sampler: str, storage: str) -> Study:
    return search(
        task,
        FORMATS,
        {"error": "min", "bits": "min"},
        limits={"bits": 5.0},
        trials=TRIALS,
        sampler=sampler,
        storage=storage,
        progress=False,
    )


def median(call: Callable[[], object], repeats: int = 50) -> float:
    def once() -> float:
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    with torch.no_grad():
        return statistics.median(once() for _ in range(repeats))


if __name__ == "__main__":
    main()
