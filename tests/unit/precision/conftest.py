"""The models of these tests, captured."""

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import quire


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 48)
        self.drop = nn.Dropout(0.1)
        self.fc2 = nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(torch.relu(self.fc1(x))))


class CNN(nn.Module):
    """A folded batch norm, a scalar constant, groups, padding and a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.LeakyReLU(0.3)
        self.conv2 = nn.Conv2d(8, 6, 3, stride=2, groups=2, bias=False)
        self.fc = nn.Linear(54, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv1(x)))
        return self.fc(self.conv2(x).flatten(1))


class TiedLM(nn.Module):
    """Three products of one input, their softmax, and an embedding that is the head's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.norm = nn.LayerNorm(16)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.norm(self.embed(ids))
        scores = self.q(x) @ self.k(x).transpose(-1, -2)
        return self.head(torch.softmax(scores, -1) @ self.v(x))


def examples(model: nn.Module, batch: int) -> Tensor:
    torch.manual_seed(1)
    shapes = {MLP: (batch, 64), CNN: (batch, 3, 8, 8), TiedLM: (batch, 7)}
    shape = shapes[type(model)]
    return torch.randint(20, shape) if isinstance(model, TiedLM) else torch.randn(shape)


def make(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = kind().eval()
    if isinstance(model, CNN):
        for buffer in (model.norm.running_mean, model.norm.running_var):
            nn.init.uniform_(buffer, 0.5, 1.5)
    return model


class Case:
    """A model, its graph, and inputs for it."""

    def __init__(self, kind: type[nn.Module]) -> None:
        self.model = make(kind)
        self.x = examples(self.model, 5)
        self.graph: GraphModule = quire.capture(self.model, (self.x[:2],))

    def fresh(self) -> nn.Module:
        """The model with other parameters."""
        model = make(type(self.model))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        return model


@pytest.fixture(scope="session")
def mlp() -> Case:
    return Case(MLP)


@pytest.fixture(scope="session")
def cnn() -> Case:
    return Case(CNN)


@pytest.fixture(scope="session")
def lm() -> Case:
    return Case(TiedLM)


@pytest.fixture(params=["mlp", "cnn", "lm"])
def case(request: pytest.FixtureRequest) -> Case:
    return request.getfixturevalue(request.param)
