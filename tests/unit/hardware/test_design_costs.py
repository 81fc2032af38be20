"""The costs of circuits in a search: those of `emit`, limits that hold, plans without hardware."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import quire
from quire.errors import HardwareError, StudyError
from quire.explore import Study, Task
from quire.hardware import DesignCosts, design_costs
from quire.precision import Maximum

FORMATS = ["fixed(4..8,fitted)", "mxint4", "mxint8"]


@pytest.fixture
def task() -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)).eval()
    x = torch.randn(64, 16)
    with torch.no_grad():
        wanted = model(x)

    def evaluate(module: nn.Module) -> dict[str, float]:
        return {"error": float((module(x) - wanted).square().mean())}

    return Task(model, (x[:2],), evaluate, (x,))


def data(task: Task) -> Tensor:
    (x,) = task.calibration or ()
    return x


def search(task: Task, path: Path, costs: DesignCosts, **options: Any) -> Study:
    given: dict[str, Any] = {
        "objectives": {"error": "min"},
        "sampler": "program",
        "trials": 40,
        **options,
    }
    storage = str(path / "study.journal")
    return quire.search(task, FORMATS, costs=costs, storage=storage, progress=False, **given)


@pytest.mark.parametrize("options", [{"rate": 4e6}, {"dsp": 10, "lut": 3000}, {"lanes": "unroll"}])
def test_a_plan_costs_what_emit_makes(task: Task, tmp_path: Path, options: dict[str, Any]) -> None:
    graph = quire.capture(task.model, task.example_inputs)
    plan = quire.Plan.uniform(graph, "fixed(6,4)")
    found = DesignCosts(data(task), **options)(graph)(plan)
    q = quire.quantize(graph, plan.for_hardware(graph, data(task), quiet=True))
    design = quire.emit(q, tmp_path / "design", **options)
    cost = design.cost()
    assert {name: found[name] for name in ("LUT", "FF", "DSP", "BRAM", "interval", "latency")} == {
        name: getattr(cost, name) for name in ("LUT", "FF", "DSP", "BRAM", "interval", "latency")
    }
    assert found["area"] == cost.LUT + 55 * cost.DSP
    plan["0.weight"] = "fixed(6,4)+gptq+bias"
    assert DesignCosts(data(task), **options)(graph)(plan) == found
    assert found["rate"] == 200e6 / design.interval
    interval = found["interval"]
    assert isinstance(interval, Maximum)
    assert interval.parts == design.intervals


def test_limits_on_resources_and_cycles_hold(task: Task, tmp_path: Path) -> None:
    costs = DesignCosts(data(task), rate=4e6)
    limits = {"DSP": 2, "LUT": 900, "interval": 48}
    study = search(task, tmp_path, costs, limits=limits)
    assert len(study.trials) > 20
    for trial in study.trials[1:]:
        assert all(trial.metrics[name] <= bound for name, bound in limits.items())
    best = study.best_trial()
    uniform = [t for t in study.feasible if t.label]
    assert all(best.metrics["error"] <= trial.metrics["error"] for trial in uniform)
    with pytest.raises(StudyError, match=r"no plan meets the limit LUT <= 50: the least is \d+"):
        search(task, tmp_path / "other", costs, limits={"LUT": 50})


def test_the_front_takes_fewer_resources_for_more_error(task: Task, tmp_path: Path) -> None:
    objectives = {"error": "min", "area": "min"}
    costs = DesignCosts(data(task), rate=4e6)
    study = search(task, tmp_path, costs, objectives=objectives, trials=80)
    front = study.pareto()
    areas = [trial.metrics["area"] for trial in front]
    assert areas == sorted(areas, reverse=True)
    assert len(front) >= 5
    assert min(areas) < 0.5 * max(areas)


def test_a_study_goes_on_with_the_costs_that_it_was_made_with(task: Task, tmp_path: Path) -> None:
    search(task, tmp_path, DesignCosts(data(task), rate=4e6), trials=5)
    assert len(search(task, tmp_path, DesignCosts(data(task), rate=4e6), trials=6).trials) == 6
    with pytest.raises(StudyError, match="costs of the smallest formats"):
        search(task, tmp_path, DesignCosts(data(task), rate=1e6), trials=7)


def test_what_has_no_hardware_or_misses_the_rate_is_not_run(task: Task) -> None:
    graph = quire.capture(task.model, task.example_inputs)
    with pytest.raises(HardwareError, match="cycles a sample"):
        DesignCosts(data(task), rate=300e6)(graph)(quire.Plan.uniform(graph, "mxint8"))
    with pytest.raises(HardwareError, match="the budget cannot be met"):
        DesignCosts(data(task), lut=100)(graph)(quire.Plan.uniform(graph, "mxint8"))


def test_arguments_are_checked_at_once(task: Task) -> None:
    with pytest.raises(HardwareError, match="rate=-1: give samples a second"):
        DesignCosts(data(task), rate=-1)
    with pytest.raises(HardwareError, match=r"dsp=1\.5: give a whole number"):
        DesignCosts(data(task), dsp=1.5)  # type: ignore[arg-type]
    with pytest.raises(HardwareError, match="lanes='foo': give 'auto', 'unroll' or"):
        DesignCosts(data(task), lanes="foo")  # type: ignore[arg-type]
    with pytest.raises(HardwareError, match="calibration=None: give a batch"):
        DesignCosts(None)  # type: ignore[arg-type]


def test_a_refused_plan_is_lowered_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = quire.capture(task.model, task.example_inputs)
    lowered: list[Any] = []
    original = design_costs.lower

    def counted(*args: Any, **options: Any) -> Any:
        lowered.append(args)
        return original(*args, **options)

    monkeypatch.setattr(design_costs, "lower", counted)
    costs = DesignCosts(data(task), lut=100)(graph)
    plan = quire.Plan.uniform(graph, "mxint8")
    said: list[str] = []
    counts: list[int] = []
    for _ in range(2):
        with pytest.raises(HardwareError, match="the budget cannot be met") as caught:
            costs(plan)
        said.append(str(caught.value))
        counts.append(len(lowered))
        assert caught.value.__context__ is None
    assert said[0] == said[1]
    assert counts[0] == counts[1] > 0


def test_calibration_may_be_an_iterator_and_costs_travel(task: Task) -> None:
    graph = quire.capture(task.model, task.example_inputs)
    x = data(task)
    costs = DesignCosts(iter([x[:32], x[32:]]), rate=4e6)
    plans = [quire.Plan.uniform(graph, text) for text in ("mxint4", "mxint8")]
    found = [costs(graph)(plan) for plan in plans]
    assert found == [DesignCosts(x, rate=4e6)(graph)(plan) for plan in plans]
    assert [pickle.loads(pickle.dumps(costs))(graph)(plan) for plan in plans] == found
    interval = pickle.loads(pickle.dumps(found[0]["interval"]))
    assert interval == found[0]["interval"]
    assert interval.parts == found[0]["interval"].parts  # type: ignore[attr-defined]
