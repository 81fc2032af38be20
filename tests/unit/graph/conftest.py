"""Models for the tests of the graph: small, with random weights from a fixed seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from quire.graph import capture

Inputs = tuple[Tensor, ...] | dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A model with example inputs, the number of its operand sites, and what capture promises.

    graph: what capture makes of it; for reading only, the tests share it.
    """

    model: nn.Module
    graph: GraphModule
    inputs: Inputs
    operands: int
    is_bitwise: bool = False

    def call(self, model: Callable[..., Any], batch: int) -> list[Tensor]:
        """The tensors that `model` returns for `batch` different examples."""
        inputs: Any = pytree.tree_map(lambda x: _examples(x, batch), self.inputs)
        args, kwargs = (inputs, {}) if isinstance(inputs, tuple) else ((), inputs)
        with torch.no_grad():
            return pytree.tree_leaves(model(*args, **kwargs))


def _examples(x: Tensor, batch: int) -> Tensor:
    """`batch` examples, each the first one with its values in another order."""
    return torch.cat([x[:1].roll(shift, -1) for shift in range(batch)])


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(16, 64), nn.Linear(64, 5)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(torch.relu(self.fc1(x))))


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2d(12)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(12, 4)
        for norm in (self.bn1, self.bn2):
            nn.init.uniform_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.uniform_(norm.weight)
            nn.init.uniform_(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.bn1(self.conv1(x))))
        x = self.act(self.bn2(self.conv2(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Attention(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.drop = nn.Dropout(0.1)
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).view(*x.shape[:2], 4, -1).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            y = self.drop((q @ k.transpose(-2, -1) / 8**0.5).softmax(-1)) @ v
        return self.out(y.transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attn = Attention(fused)
        self.fc1, self.fc2 = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


def _hugging_face(name: str) -> tuple[nn.Module, Inputs]:
    transformers = pytest.importorskip("transformers")
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "use_cache": False,
    }
    tokens = {"input_ids": torch.arange(32).reshape(2, 16)}
    sizes = {"vocab_size": 99, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    if name == "vit":
        config = transformers.ViTConfig(**shape, intermediate_size=64, image_size=16, patch_size=4)
        return transformers.ViTForImageClassification(config), {
            "pixel_values": torch.randn(2, 3, 16, 16)
        }
    if name == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, use_cache=False, **sizes)
        return transformers.GPT2LMHeadModel(config), tokens
    if name == "opt":
        config = transformers.OPTConfig(**shape, ffn_dim=64, word_embed_proj_dim=32, **sizes)
        return transformers.OPTForCausalLM(config), tokens
    if name == "llama":
        config = transformers.LlamaConfig(
            **shape, num_key_value_heads=2, intermediate_size=64, **sizes
        )
        return transformers.LlamaForCausalLM(config), tokens
    config = transformers.BertConfig(**shape, intermediate_size=64, **sizes)
    return transformers.BertForSequenceClassification(config), tokens


# Two operands for each product; a tied embedding table is one more.
OPERANDS = {
    "mlp": 4,
    "cnn": 6,
    "layer": 16,
    "fused layer": 16,
    "bert": 2 * 16 + 4,
    "gpt2": 2 * 12 + 3,
    "vit": 2 * 16 + 4,
    "opt": 2 * 16 + 3,
    "llama": 2 * 18 + 2,
}


def build(name: str) -> Case:
    """The case called `name`, the same at every call."""
    torch.manual_seed(0)
    own: dict[str, Callable[[], tuple[nn.Module, Inputs]]] = {
        "mlp": lambda: (Mlp(), (torch.randn(2, 16),)),
        "cnn": lambda: (Cnn(), (torch.randn(2, 3, 16, 16),)),
        "layer": lambda: (Layer(fused=False), (torch.randn(2, 16, 32),)),
        "fused layer": lambda: (Layer(fused=True), (torch.randn(2, 16, 32),)),
    }
    model, inputs = own[name]() if name in own else _hugging_face(name)
    is_bitwise = name in ("mlp", "layer")
    return Case(model, capture(model.eval(), inputs), inputs, OPERANDS[name], is_bitwise)


@pytest.fixture(params=OPERANDS)
def case(request: pytest.FixtureRequest) -> Case:
    """Each model in turn, shared by the tests that only read it."""
    return _shared(request.param)


_shared = cache(build)


@pytest.fixture
def make() -> Callable[[str], Case]:
    """`build`, for a test that changes the model."""
    return build


@pytest.fixture
def read() -> Callable[[str], Case]:
    """The shared case of a name, for a test that only reads."""
    return _shared
