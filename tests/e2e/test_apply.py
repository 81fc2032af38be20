"""Live modules from end to end: a trained model in codes, and the Hugging Face example."""

import importlib
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import ModuleType

import pytest
import torch

import quire
from quire import Plan
from quire.software.mx.linear import MXLinear

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def trained() -> tuple[ModuleType, torch.nn.Module]:
    """The module of the character model's example, and the model after 60 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        example, training = importlib.import_module("char_lm"), importlib.import_module("training")
    torch.manual_seed(0)
    data, _, _, characters = example.load_texts()
    model = example.CharacterModel(characters)
    starts = len(data) - example.CONTEXT
    training.fit(model, lambda: example.nats(model, data, torch.randint(starts, (32,))), steps=60)
    return example, model.eval()


@pytest.mark.parametrize("format", ["mxint8", "mxint6", "mxint4", "mxfp8_e4m3"])
@pytest.mark.parametrize("inputs", [None, "mxint8"])
@torch.no_grad()
def test_kernels_and_emulation_give_the_same_bits_per_character(trained, format, inputs):
    example, model = trained
    data, validation, _, _ = example.load_texts()
    graph = quire.capture(deepcopy(model), (data[: 2 * example.CONTEXT].view(2, -1),))
    operands = [s for s in quire.sites(graph).values() if s.is_operand and s.op == "linear"]
    entries = {"weight": format, "input": inputs}
    plan = Plan({s.name: entries[s.operand] for s in operands if entries[s.operand]})
    emulated = example.measure(quire.quantize(graph, plan), validation)["bpc"]
    live = deepcopy(model)
    assert not quire.apply(live, plan, quiet=True).left
    assert sum(isinstance(module, MXLinear) for module in live.modules()) == len(operands) // 2
    kernels = example.measure(live, validation)["bpc"]
    full = example.measure(model, validation)["bpc"]
    assert full < 4.8  # log2 of about 100 characters = 6.6 before training
    assert kernels != full
    # Sums in another order: 2^-24 a term, and what an activation's rounding boundary makes of it.
    assert kernels == pytest.approx(emulated, abs=1e-5 if inputs is None else 1e-3)


def test_the_hugging_face_example():
    command = [sys.executable, "-W", "error", str(EXAMPLES / "huggingface_mxint8.py")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "MXLinear(in_features=256, out_features=512, format=mxint8, bias=False)" in done.stdout
    assert "the same logits: True" in done.stdout
