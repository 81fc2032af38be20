"""The labs of the examples, at a small size: what a lab prints is what its figure draws."""

import importlib
import json
import math
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import quire
from quire.precision import Plan

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBER = re.compile(r"nan|\d+(\.\d+)?(e-\d+)?")

Rows = dict[str, list[float]]
Traces = list[dict[str, Any]]


def run(name: str, columns: int, *arguments: str, folder: Path) -> tuple[Rows, Traces]:
    """The rows that a lab prints, {label: numbers}, and what its figure draws."""
    page = folder / "lab.html"
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--out", str(page)]
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(
        [*command, "--epochs", "6", *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows: Rows = {}
    for words in map(str.split, done.stdout.splitlines()):
        label, numbers = " ".join(words[:-columns]), words[-columns:]
        if label and all(map(NUMBER.fullmatch, numbers)):
            rows[label] = [float(number) for number in numbers]
    return rows, traces(page)


def traces(page: Path) -> Traces:
    """The traces of a page that Plotly wrote."""
    text = page.read_text(encoding="utf-8")
    drawn = text[text.index("[", text.rindex("Plotly.newPlot(")) :]
    found, _ = json.JSONDecoder().raw_decode(drawn)
    return found


def rounded(values: list[float]) -> list[float]:
    """As a table prints them."""
    return [float(f"{value:.4g}") for value in values]


def test_integer_widths(tmp_path: Path):
    rows, drawn = run("lab_integer_widths", 2, "--trials", "8", folder=tmp_path)
    assert list(rows) == ["float64", *(trace["name"] for trace in drawn)]
    for name, bound in (("at most 8 bits", 8), ("at most 12 bits", 12), ("at most 20 bits", 20)):
        assert 8 <= rows[name][0] <= bound
    for trace in drawn:
        assert all(a <= b for a, b in pairwise(trace["y"]))
        assert rounded(trace["y"][-1:]) == rows[trace["name"]][1:]
        assert trace["x"][-1] == 7  # fp64 is trial 0


def test_widths_over_24_bits_run_in_float64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    digits = importlib.import_module("digits")
    found = digits.task(0, 1, tmp_path / "fp64.safetensors", torch.float64)
    graph = quire.capture(found.model, found.example_inputs)
    (images,) = found.calibration
    with torch.no_grad():
        logits = quire.quantize(graph, Plan.uniform(graph, "fixed(32,8)"))(images)
        expected = quire.quantize(graph, Plan.uniform(graph, "fixed(24,8)"))(images)
    assert logits.dtype == torch.float64
    assert (logits.float().double() != logits).any()  # no float32 is between the operations
    assert torch.equal(logits, expected)  # nothing in this model is beyond 2^15


def test_families(tmp_path: Path):
    rows, drawn = run("lab_families", 3, "--trials", "6", folder=tmp_path)
    assert list(rows) == ["fp32", *(trace["name"] for trace in drawn)]
    assert len(drawn) == 10
    for trace in drawn:
        bits, loss, _ = rows[trace["name"]]
        assert bits <= 4.5
        assert all(a >= b for a, b in pairwise(trace["y"]))
        assert rounded(trace["y"][-1:]) == [loss]


def test_ptq_and_qat(tmp_path: Path):
    rows, (ptq, qat) = run("lab_ptq_qat", 2, "--qat-epochs", "4", folder=tmp_path)
    assert list(rows) == [*(f"{width} bits" for width in ptq["x"]), "float64"]
    assert ptq["x"] == qat["x"] == [3, 4, 5, 6, 8, 12, 16, 24, 32]
    columns = zip(*list(rows.values())[:-1], strict=True)
    assert [list(column) for column in columns] == [rounded(ptq["y"]), rounded(qat["y"])]
    assert rows["3 bits"][1] > rows["3 bits"][0]
    assert rows["32 bits"][0] == rows["float64"][0]


def test_products(tmp_path: Path):
    rows, (trace,) = run("lab_products", 3, folder=tmp_path)
    products = ("q", "k", "v", "qk", "pv", "out", "fc1", "fc2")
    assert list(rows) == trace["y"] == [f"layers.{n}.{p}" for n in (0, 1) for p in products]
    assert trace["x"] == ["2", "3", "4", "5", "6", "7", "8"]
    for (fewest, at_4, at_6), logarithms in zip(rows.values(), trace["z"], strict=True):
        assert 10 ** logarithms[2] == pytest.approx(at_4, rel=1e-3)
        assert 10 ** logarithms[4] == pytest.approx(at_6, rel=1e-3)
        within = [width for width, v in zip(range(2, 9), logarithms, strict=True) if v <= -3]
        assert fewest == within[0]
        assert logarithms[0] > logarithms[-1]


def test_samplers(tmp_path: Path):
    rows, drawn = run("lab_samplers", 4, "--evaluations", "160", folder=tmp_path)
    assert list(rows) == ["TPE", "NSGA-II", "random", "integer program"]
    assert [trace["name"] for trace in drawn] == list(rows)
    for trace in drawn:
        assert all(a >= b for a, b in pairwise(trace["y"]))
        assert rounded(trace["y"][-1:]) == rows[trace["name"]][-1:]
        assert trace["x"][-1] == 160
    *others, program = drawn
    assert {trace["x"][0] for trace in others} == {1}
    assert program["x"][0] > 100  # the sensitivities
    assert rows["integer program"][0] == rounded([math.log(10)])[0]
