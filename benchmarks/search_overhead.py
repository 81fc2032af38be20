"""What a search adds to a trial besides running the model: milliseconds a trial.

The model has the shape of the digits ViT with random weights (width 32, 2 layers, 4 heads, MLP 64,
16 tokens), evaluated on 360 images. "quire" is the plan, its cost, and the switch of the graph's
formats, with the costs of the plans that were checked against the limit. Times are means over the
trials of one search, the run's a median, with the casts and, for fp32, without; on one thread.

`against reloading` compares a search of the digits ViT and one of the character model of the
examples (random weights, the data of calibration) with what a script does without Quire's search:
for each of the same plans it builds the model, loads its checkpoint, captures, quantizes, and
evaluates; or, by hand too, quantizes a graph that was captured once (`kept graph`). `trial` is all
of that; for Quire sampler and storage are in it. `without evaluation` is what is left.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from record import record
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from characters import CharacterModel, load_texts, measure, windows
from digits import VisionTransformer, load_splits, score

import quire
from quire.explore import Study, Task, search

WIDTH, HEADS, TOKENS, IMAGES, TRIALS = 32, 4, 16, 360, 100
Evaluate = Callable[[nn.Module], dict[str, float]]
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
    record("search_overhead", {**figures, "against reloading": against_reloading()})


def against_reloading() -> dict[str, dict[str, float]]:
    """Milliseconds of a trial of the search, and of one that starts from the checkpoint."""
    data, validation, _, characters = load_texts()
    (images, _), checked, _ = load_splits(0)
    text = windows(data)[:, :-1]
    models: dict[str, tuple[Callable[[], nn.Module], Tensor, Evaluate, str]] = {
        "digits ViT": (VisionTransformer, images[:256], partial(score, data=checked), "loss"),
        "character model": (
            partial(CharacterModel, characters),
            text,
            partial(measure, text=validation),
            "bpc",
        ),
    }
    return {name: compared(*given) for name, given in models.items()}


def compared(
    make: Callable[[], nn.Module], x: Tensor, evaluate: Evaluate, metric: str
) -> dict[str, float]:
    """The figures of one model."""
    task = Task(make().eval(), (x[:2],), evaluate, calibration=(x,))
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = f"{folder}/model.safetensors"
        save_file(task.model.state_dict(), checkpoint)
        study = run(task, "guided", f"{folder}/study.journal", metric)
        plans = [trial.plan for trial in study.trials[1:21]]
        again = {"reloading": [reloaded(task, make, checkpoint, plan) for plan in plans]}
    graph = quire.capture(task.model, task.example_inputs)
    again["kept graph"] = [requantized(task, lambda: graph, plan) for plan in plans]
    spent = {part: 1e3 * seconds / len(study.trials) for part, seconds in study.timing.items()}
    found = {
        "quire, trial": sum(spent.values()),
        "quire, without evaluation": sum(spent.values()) - spent["evaluate"],
    }
    for way, seconds in again.items():
        found[f"{way}, trial"] = 1e3 * statistics.fmean(map(sum, seconds))
        found[f"{way}, without evaluation"] = 1e3 * statistics.fmean(first for first, _ in seconds)
        for part in ("trial", "without evaluation"):
            found[f"{way}: times as slow, {part}"] = (
                found[f"{way}, {part}"] / found[f"quire, {part}"]
            )
    return {name: round(value, 2) for name, value in found.items()}


def reloaded(
    task: Task, make: Callable[[], nn.Module], checkpoint: str, plan: quire.Plan
) -> tuple[float, float]:
    """Seconds from the checkpoint to the quantized model, and of its evaluation."""

    def captured() -> GraphModule:
        model = make().eval()
        model.load_state_dict(load_file(checkpoint))
        return quire.capture(model, task.example_inputs)

    return requantized(task, captured, plan)


def requantized(
    task: Task, captured: Callable[[], GraphModule], plan: quire.Plan
) -> tuple[float, float]:
    """Seconds to the quantized model, and of its evaluation."""
    started = time.perf_counter()
    q = quire.quantize(captured(), plan).eval()
    ready = time.perf_counter()
    with torch.no_grad():
        task.evaluate(q)
    return ready - started, time.perf_counter() - ready


def run(task: Task, sampler: str, storage: str, metric: str = "error") -> Study:
    return search(
        task,
        FORMATS,
        {metric: "min", "bits": "min"},
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
