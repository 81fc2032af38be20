"""Formats and circuit searched together: what was predicted is what is synthesised."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import quire
from quire.hardware import DesignCosts

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/joint_search.py`."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.syspath_prepend(str(FOLDER.parent / "examples"))
    spec = importlib.util.spec_from_file_location("joint_search", FOLDER / "joint_search.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.nightly
def test_a_point_of_the_front_is_the_circuit_that_was_costed(
    benchmark: ModuleType, tmp_path: Path
) -> None:
    found = benchmark.task(benchmark.SEED, epochs=20, hidden=benchmark.HIDDEN)
    costs = DesignCosts(found.calibration, rate=benchmark.RATE)
    study = quire.search(
        found,
        ["fixed(3..6,fitted)"],
        {"loss": "min", "area": "min"},
        trials=60,
        storage=str(tmp_path / "study.journal"),
        costs=costs,
        progress=False,
    )
    areas = [trial.metrics["area"] for trial in study.pareto()]
    assert len(areas) >= 5
    assert min(areas) < 0.7 * max(areas)
    _, middle, _ = benchmark.points(study)
    row = benchmark.design(found, costs, middle, tmp_path / "design")
    assert row["values equal to the exact graph's"] == 3600
    assert row["interval, latency"] == row["interval, latency predicted"]
    assert {name: row["synthesised"][name] for name in ("DSP", "BRAM")} == {
        name: row["predicted"][name] for name in ("DSP", "BRAM")
    }
    assert abs(row["off"]["LUT"]) < 0.1
