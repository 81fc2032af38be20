"""The cost model against synthesis, on whole designs that no curve was made from."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """`benchmarks/cost_model.py` with its designs in a fresh folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("cost_model", FOLDER / "cost_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    return module


@pytest.mark.nightly
def test_estimates_of_designs_held_out_are_within_a_tenth(benchmark: ModuleType):
    rows = {name: benchmark.compared(name, case) for name, case in benchmark.HELD_OUT.items()}
    assert sum(row["LUT"][1] > 500 for row in rows.values()) >= 8
    found = benchmark.errors(rows)
    assert found["LUT"] < 0.10
    assert found["FF"] < 0.10
    assert found["wrong DSP"] == found["wrong BRAM"] == 0
