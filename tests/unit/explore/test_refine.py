"""Searches from the front of the integer program: the first trials, the moves, resumption."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from quire.errors import StudyError
from quire.explore import Study, Task, run, search, sensitivity
from quire.explore.sensitivity import measure
from quire.explore.workbench import Workbench

MakeTask = Callable[..., Task]
FORMATS = ["mxint2", "mxint3", "mxint4", "mxint5", "mxint6", "mxint8"]


def run_program(task: Task, storage: str, **options: Any) -> Study:
    given: dict[str, Any] = {
        "formats": FORMATS,
        "objectives": {"error": "min"},
        "limits": {"bits": 4.5},
        "trials": 40,
        "sampler": "program",
        "progress": False,
    } | options
    return search(task, storage=storage, **given)


def plans(study: Study) -> list[tuple[str, ...]]:
    return [tuple(trial.formats.values()) for trial in study.trials]


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> int:
    return sum(before[site] != after[site] for site in before)


def test_the_plan_of_the_program_is_the_first_after_the_uniform_ones(
    task: Task, storage: str
) -> None:
    study = run_program(task, storage)
    assert [trial.label for trial in study.trials[:5]] == [
        "fp32",
        *(f"uniform {name}" for name in ("mxint2", "mxint3", "mxint4")),
        "",
    ]
    found = sensitivity(task, FORMATS, storage=storage, progress=False)
    assert study.trials[4].plan == found.plan(bits=4.5)
    assert study.preparation == found.evaluations == 1 + 3 + len(found.rows())


def test_each_move_changes_two_sites_of_the_best_plan_so_far_within_the_limit(
    task: Task, storage: str
) -> None:
    study = run_program(task, storage, limits={"bits": 4.5, "activation_bits": 5.0})
    trials = study.trials[1:]
    assert len(set(plans(study))) == 40
    for k, trial in enumerate(trials):
        assert trial.metrics["bits"] <= 4.5
        assert trial.metrics["activation_bits"] <= 5.0
        if k >= 4:
            best = min(trials[:k], key=lambda t: t.metrics["error"])
            assert 1 <= changes(best.formats, trial.formats) <= 2
    assert study.best_trial().metrics["error"] <= study.trials[4].metrics["error"]


def test_moves_find_the_best_plan_that_the_program_misses(storage: str, task: Task) -> None:
    """A site whose format has no effect alone, but is what counts beside another one."""

    def error(model: nn.Module) -> dict[str, float]:
        found = task.evaluate(model)["error"]
        bits = [slot.cast_args[0] for slot in model.modules() if getattr(slot, "cast_args", None)]
        return {"error": found + 10.0 * (bits.count("mxint6") == 0 and len(bits) > 1)}

    study = run_program(
        Task(task.model, task.example_inputs, error, task.calibration),
        storage,
        formats=["mxint2", "mxint3", "mxint4", "mxint6"],
        limits={"bits": 3.7},
    )
    assert study.best_trial().metrics["error"] < 10.0


def test_a_front_is_tried_where_small_is_good(task: Task, storage: str) -> None:
    goal: dict[str, Any] = {
        "objectives": {"error": "min", "bits": "min"}, "limits": {}, "trials": 60
    }  # fmt: skip
    found = sensitivity(task, FORMATS, storage=storage, kind="error", progress=False)
    study = run_program(task, storage, sensitivities=found, **goal)
    bits = [trial.metrics["bits"] for trial in study.trials[7:20]]
    assert bits == sorted(bits)
    assert bits[-1] - bits[0] > 2
    random = run_program(task, storage, name="r", sampler="random", **goal)
    for bound in bits:
        ours = study.best_trial(max_bits=bound).metrics["error"]
        assert ours <= random.best_trial(max_bits=bound).metrics["error"]


@pytest.mark.parametrize("sampler", ["guided", "tpe", "nsga2", "random"])
def test_any_sampler_starts_from_the_front(sampler: str, task: Task, storage: str) -> None:
    study = run_program(task, storage, sampler=sampler, start="front", trials=12)
    found = sensitivity(task, FORMATS, storage=storage, progress=False)
    assert study.trials[4].plan == found.plan(bits=4.5)
    assert len(set(plans(study))) == 12
    assert all(trial.metrics["bits"] <= 4.5 for trial in study.trials[1:])


def test_a_search_goes_on_as_if_it_had_not_stopped(task: Task, tmp_path: Path) -> None:
    whole = run_program(task, str(tmp_path / "a"))
    run_program(task, str(tmp_path / "b"), trials=13)
    parts = run_program(task, str(tmp_path / "b"))
    assert plans(parts) == plans(whole)
    assert parts.preparation == whole.preparation


def test_sensitivities_that_were_given_are_gone_by(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = sensitivity(task, FORMATS, storage=str(tmp_path / "s"), kind="fisher", progress=False)
    monkeypatch.setattr(run, "measure", None)
    study = run_program(task, str(tmp_path / "a"), sensitivities=scores, trials=10)
    assert study.trials[4].plan == scores.plan(bits=4.5)
    assert study.preparation == scores.evaluations == 4
    assert Study.load("search", str(tmp_path / "a")).preparation == 4


def test_ctrl_c_during_the_sensitivities_leaves_a_study_that_goes_on(
    task: Task, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "measure", stopped)
    study = run_program(task, storage)
    assert study.interrupted
    assert [trial.label for trial in study.trials] == ["fp32"]
    monkeypatch.setattr(run, "measure", measure)
    assert len(run_program(task, storage, trials=6).trials) == 6


def test_a_maximised_objective_and_failed_trials(make_task: MakeTask, storage: str) -> None:
    plain, calls = make_task(), [0]

    def evaluate(model: nn.Module) -> dict[str, float]:
        calls[0] += 1
        if calls[0] in (6, 9):
            raise RuntimeError("out of luck")
        return {"quality": -plain.evaluate(model)["error"]}

    study = run_program(make_task(evaluate), storage, objectives={"quality": "max"})
    assert [trial.number for trial in study.failed] == [5, 8]
    assert len(set(plans(study))) == 40
    front = study.trials[4].metrics["quality"]
    assert study.best_trial().metrics["quality"] >= front


def test_it_ends_when_every_plan_was_tried(task: Task, storage: str) -> None:
    study = run_program(task, storage, formats=["mxint3", "mxint4"], limits={}, trials=50)
    assert len(study.trials) == 1 + 2**4


def test_mistakes_are_named(task: Task, storage: str) -> None:
    with pytest.raises(StudyError, match="start='best': give one of uniform, front"):
        run_program(task, storage, start="best")
    with pytest.raises(StudyError, match="'program' needs an objective that evaluate measures"):
        run_program(task, storage, objectives={"bits": "min"})


def test_the_evaluations_of_a_search_are_counted(
    task: Task, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run of the quantized model is in `preparation` or a trial."""
    used: list[Any] = []
    use = Workbench.use

    def counted(bench: Workbench, formats: Mapping[str, str]) -> Any:
        used.append(formats)
        return use(bench, formats)

    monkeypatch.setattr(Workbench, "use", counted)
    study = run_program(task, storage, trials=20)
    backward = 2
    assert len(used) + backward == study.preparation + len(study.trials)
