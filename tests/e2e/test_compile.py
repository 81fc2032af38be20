"""`quire explain`, `quire bench compile`, and a Hugging Face model compiled in five lines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import quire
from quire.software.measure import WAYS

TASK = """
import torch
from torch import nn
from quire import Task

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))

    def forward(self, x):
        scores = self.q(x) @ self.k(x).transpose(-2, -1) / 32 ** 0.5
        return scores.softmax(-1) @ self.v(x)

def task():
    torch.manual_seed(0)
    return Task(Model().eval(), (torch.randn(2, 8, 32),), lambda model: {"error": 0.0})
"""


def quire_command(folder: Path, *arguments: str) -> str:
    (folder / "demo_task.py").write_text(TASK)
    command = [sys.executable, "-c", "from quire.cli import main; main()", *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=_environment(folder)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}


def test_explain_prints_every_stage(tmp_path: Path) -> None:
    quire.Plan({"q.input": "mxint8", "q.weight": "mxint8", "k.weight": "mxint8"}).save(
        tmp_path / "plan.json"
    )
    text = quire_command(tmp_path, "explain", "demo_task:task", "--plan", "plan.json")
    assert "Dynamo: 1 graph, 0 breaks" in text
    assert "fuse_attention rewrote (root): matmul_1: one kernel whose scores never" in text
    assert "merge_projections left v: linear_2: the others at this input differ" in text
    assert "merge_projections rewrote q, k: linear, linear_1: one larger product" in text
    assert "scaled_dot_product" in text
    assert text.index("Dynamo") < text.index("Passes") < text.index("Inductor: ")


@pytest.mark.nightly
def test_bench_compile_writes_figures_and_a_page(tmp_path: Path) -> None:
    text = quire_command(
        *(tmp_path, "bench", "compile", "demo_task:task", "--repeats", "2"),
        *("--seconds", "30", "--page", "page.html"),
    )
    data = json.loads((tmp_path / "compile.json").read_text())
    assert data["benchmark"] == "compile"
    found = data["figures"][0]["models"]
    taken = [f"{row['model']}: {row['way']}" for row in found["figures"]]
    # What there was no time for is said, so that every model is there in every way.
    every = [*taken, *found["failures"], *found["left_out"]]
    assert len(every) == len(set(every)) == 3 * len(WAYS)
    assert found["failures"] == {}
    assert "demo_task:task: eager" in taken
    assert "demo_task:task" in text
    assert "Time for so many calls" in (tmp_path / "page.html").read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@torch.no_grad()
def test_a_hugging_face_model_in_five_lines() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(**sizes, intermediate_size=64, vocab_size=99)
    model = transformers.BertForSequenceClassification(config).eval()
    inputs = {"input_ids": torch.arange(32).reshape(2, 16)}
    torch.compiler.reset()
    fast = quire.compile(model, {"*.weight": "mxint8"}, compiler="aot_eager")
    graph = quire.capture(model, inputs)
    q = quire.quantize(graph, quire.Plan.from_patterns(graph, {"*.weight": "mxint8"}))
    for batch in (2, 1):
        ids = {"input_ids": inputs["input_ids"][:batch]}
        torch.testing.assert_close(fast(**ids).logits, q(**ids).logits, rtol=1e-5, atol=1e-5)
    assert len(fast.report.kept("fuse_attention")) == 2
    assert len(fast.report.kept("merge_projections")) == 2
    torch.compiler.reset()
