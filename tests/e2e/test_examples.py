"""The examples, at a small size: what they print and what they write."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import quire
from quire.precision import Plan

EXAMPLES = Path(__file__).parents[2] / "examples"
UNIFORM = {
    *("mxint3", "mxint4", "bfp(3,scale_bits=8,size=16)", "bfp(4,scale_bits=8,size=16)"),
    *("mxfp4", "mxfp6_e2m3", "bl(4,scale_bits=8,size=16)"),
    *(f"fixed({width},fitted)" for width in range(3, 7)),
}


def run(name: str, *arguments: str, folder: Path) -> dict[str, list[float]]:
    """The rows that an example prints: {label: numbers}."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows: dict[str, list[float]] = {}
    for line in done.stdout.splitlines():
        words = line.split()
        numbers = words[-4:]
        if len(words) > 4 and all(word.replace(".", "").isdigit() for word in numbers):
            rows[" ".join(words[:-4])] = [float(word) for word in numbers]
    return rows


def drawn(page: Path) -> dict[str, Any]:
    """The data that a page draws."""
    text = page.read_text()
    return json.loads(text.split('type="application/json" id="results">')[1].split("</script>")[0])


def check_rows(rows: dict[str, list[float]]) -> None:
    """The table has every uniform format, and a mixed plan is the best found at its size."""
    assert rows.keys() >= {"fp32", *UNIFORM, "mixed, at most 4.0 bits"}
    assert rows["fp32"][0] == 32
    bits, loss, best, _ = rows["mixed, at most 4.0 bits"]
    assert bits <= 4
    assert loss == best <= rows["fixed(4,fitted)"][1]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_an_example_has_under_80_lines(file: Path):
    assert len(file.read_text().splitlines()) < 80


def test_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = ("--epochs", "8", "--trials", "45", "--out", "out")
    rows = run("demo.py", *arguments, folder=tmp_path)
    check_rows(rows)
    assert rows["fp32"][1] < 1.8  # ln 10 = 2.3 before training
    assert rows["fp32"][3] > 0.5

    out = tmp_path / "out"
    monkeypatch.syspath_prepend(EXAMPLES)
    found = importlib.import_module("digits").task(weights=out / "fp32.safetensors")
    graph = quire.capture(found.model, found.example_inputs)
    plan = Plan.load(out / "plan.json", graph)
    cost = quire.cost(graph, plan)
    assert cost.bits == pytest.approx(rows["mixed, at most 4.0 bits"][0], abs=5e-4)
    assert (out / "model.safetensors").stat().st_size == cost.memory
    loaded = quire.load(found.model, out / "model.safetensors")
    (images,) = found.calibration
    assert torch.equal(loaded(images), quire.quantize(graph, plan)(images))

    data = drawn(out / "page.html")
    assert {trial["label"] for trial in data["trials"]} >= {f"uniform {name}" for name in UNIFORM}
    assert [row["label"] for row in data["figures"]] == list(rows)
    assert len(data["tensors"]) == 36  # the sites

    data = drawn(out / "hardware.html")
    assert "360 samples, 3,600 output values" in data["summary"][1]
    assert data["summary"][1].endswith("none differs")
    assert data["target"] == "xc7"
    measured = {name: figure for name, _, figure in data["compared"]}
    assert quire.Design.load(out / "hardware").latency == measured["latency (cycles)"]
    assert measured["LUT"] > 0


def test_the_character_model(tmp_path: Path):
    sizes = ("--steps", "60", "--trials", "30", "--qat-steps", "8", "--sensitivities", "fisher")
    rows = run("char_lm.py", *sizes, folder=tmp_path)
    check_rows(rows)
    assert rows["fp32"][1] < 4.8  # log2 of about 100 characters = 6.6 before training
    for bits in ("4.5", "4.0", "3.5"):
        assert rows[f"mixed, at most {bits} bits, trained"][0] <= float(bits)
