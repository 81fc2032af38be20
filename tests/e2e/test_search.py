"""Searches on real data: a small digits network, after training and with training in the loop."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

import quire
from quire.explore import Task


def train(model: nn.Module, epochs: int, data: tuple[Tensor, Tensor], rate: float) -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(data[0]), generator=generator).split(64):
            loss = functional.cross_entropy(model(data[0][batch]), data[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.fixture(scope="module")
def task() -> Task:
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU())
    model.append(nn.Linear(32, 10))
    train(model, 20, (x[:1000], y[:1000]), 4e-3)

    def evaluate(q: nn.Module) -> dict[str, float]:
        logits, truth = q(x[1000:1400]), y[1000:1400]
        return {
            "loss": float(functional.cross_entropy(logits, truth)),
            "accuracy": float((logits.argmax(1) == truth).double().mean()),
        }

    return Task(
        model.eval(),
        (x[:2],),
        evaluate,
        calibration=(x[:128],),
        train=lambda q, epochs: train(q, epochs, (x[:1000], y[:1000]), 1e-3),
    )


FORMATS = ["mxint2", "mxint3", "mxint4", "mxint6", "bfp(4)", "mxfp4", "fixed(3..6,fitted)"]


def test_mixed_plans_beat_uniform_ones_of_their_size(task: Task, tmp_path: Path) -> None:
    study = quire.search(
        task,
        FORMATS,
        {"loss": "min", "bits": "min"},
        limits={"bits": 6.5},
        trials=120,
        storage=str(tmp_path / "study.journal"),
        progress=False,
    )
    uniform = [trial for trial in study.trials if trial.label.startswith("uniform")]
    mixed = [trial for trial in study.trials if not trial.label]
    beaten = [
        trial.label
        for trial in uniform
        if any(
            other.metrics["loss"] < trial.metrics["loss"]
            and other.metrics["bits"] <= trial.metrics["bits"]
            for other in mixed
        )
    ]
    assert len(beaten) >= len(uniform) - 2  # nothing is smaller than the smallest of them
    lost = study.baseline.metrics["accuracy"] - study.best_trial(max_bits=4).metrics["accuracy"]
    assert lost <= 0.01


def test_training_in_the_loop_recovers_what_quantization_lost(task: Task, tmp_path: Path) -> None:
    def uniform(name: str, epochs: int) -> float:
        study = quire.search(
            task,
            ["mxint2"],
            {"accuracy": "max"},
            trials=2,
            name=name,
            qat_epochs=epochs,
            storage=str(tmp_path / "study.journal"),
            progress=False,
        )
        return study.best_trial().metrics["accuracy"]

    plain, trained = uniform("plain", 0), uniform("trained", 12)
    assert plain < 0.7 < plain + 0.1 < trained


def test_the_best_plan_is_what_its_trial_measured(task: Task, tmp_path: Path) -> None:
    study = quire.search(
        task,
        FORMATS,
        {"accuracy": "max", "bits": "min"},
        limits={"memory": 6000.0},
        sampler="tpe",
        trials=30,
        storage=str(tmp_path / "study.journal"),
        progress=False,
    )
    best = study.best_trial(max_memory=6000)
    best.plan.save(tmp_path / "plan.json")
    graph = quire.capture(task.model, task.example_inputs)
    plan = quire.Plan.load(tmp_path / "plan.json", graph)
    with torch.no_grad():
        metrics = replace(task).score(quire.quantize(graph, plan))
    assert metrics | quire.cost(graph, plan).metrics() == best.metrics
    assert best.metrics["memory"] <= 6000
