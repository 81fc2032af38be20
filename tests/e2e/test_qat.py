"""Quantization-aware training: an ordinary loop recovers what rounding alone has lost."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import quire
from quire import Plan

Split = tuple[Tensor, Tensor]


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 48)
        self.drop = nn.Dropout(0.1)
        self.fc2 = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(torch.relu(self.fc1(x.flatten(1)))))


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2)
        self.norm2 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(144, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(x)))
        return self.fc(torch.relu(self.norm2(self.conv2(x))).flatten(1))


@pytest.fixture(scope="module")
def digits() -> tuple[Split, Split]:
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    y = torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return (x[:1297], y[:1297]), (x[1297:], y[1297:])


def train(model: nn.Module, split: Split, epochs: int, rate: float) -> None:
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(split[0])).split(64):
            optimiser.zero_grad()
            F.cross_entropy(model(split[0][batch]), split[1][batch]).backward()
            optimiser.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, split: Split) -> float:
    return float((model(split[0]).argmax(1) == split[1]).float().mean())


@pytest.mark.parametrize(("kind", "epochs"), [(MLP, 25), (CNN, 10)])
def test_training_recovers_accuracy(
    digits: tuple[Split, Split], kind: type[nn.Module], epochs: int
) -> None:
    torch.manual_seed(0)
    training, test = digits
    model = kind()
    train(model, training, epochs, 5e-3)
    full = accuracy(model, test)
    graph = quire.capture(model, (test[0][:2],))
    plan = Plan.uniform(graph, "mxint3") | Plan.from_patterns(graph, {"*.weight": "mxint2"})
    statistics = {n: b.clone() for n, b in graph.named_buffers() if "running" in n}
    q = quire.quantize(graph, plan)
    rounded = accuracy(q, test)
    train(q, training, 8, 1e-3)
    trained = accuracy(q, test)
    assert full > 0.96
    assert rounded < full - 0.08
    assert trained > (full + rounded) / 2
    assert all(torch.equal(b, statistics[n]) for n, b in q.named_buffers() if n in statistics)
    # What was trained are the model's own parameters, and the casts of them are what ran.
    again = quire.quantize(quire.capture(model, (test[0][:2],)), plan)
    assert accuracy(again, test) == trained
