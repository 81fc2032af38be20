"""Searches on a small network: order of trials, limits, samplers, failures, resumption."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import nn

from quire.errors import StudyError, TaskError
from quire.explore import Study, Task, Trial, search
from quire.explore.guided import GuidedProposer
from quire.explore.storage import open_storage
from quire.graph import capture
from quire.precision import Plan, cost, quantize

MakeTask = Callable[..., Task]
Failing = Callable[[Callable[[int], Any]], Task]
FORMATS = ["mxint3", "mxint4", "mxint6", "mxint8"]
GOAL = {"error": "min", "bits": "min"}


def run(task: Task, storage: str, **options: Any) -> Study:
    given: dict[str, Any] = {
        "formats": FORMATS,
        "objectives": GOAL,
        "trials": 20,
        "progress": False,
    } | options
    return search(task, storage=storage, **given)


def plans(study: Study) -> list[tuple[str, ...]]:
    return [tuple(trial.formats.values()) for trial in study.trials]


def test_baseline_then_uniform_plans_then_others(task: Task, storage: str) -> None:
    study = run(task, storage)
    labels = [trial.label for trial in study.trials]
    assert labels == ["fp32", *(f"uniform {name}" for name in FORMATS), *[""] * 15]
    assert [trial.number for trial in study.trials] == list(range(20))
    assert study.baseline.metrics["error"] == 0.0
    assert study.baseline.metrics["bits"] == 32.0
    assert len(set(plans(study))) == 20
    errors = [trial.metrics["error"] for trial in study.trials[1:5]]
    assert errors == sorted(errors, reverse=True)


def test_metrics_are_those_of_the_quantized_graph(task: Task, storage: str) -> None:
    study = run(task, storage)
    graph = capture(task.model, task.example_inputs)
    for trial in study.trials[::5]:
        with torch.no_grad():
            expected = dict(task.evaluate(quantize(graph, trial.plan)))
        assert trial.metrics == expected | cost(graph, trial.plan).metrics()


SAMPLERS = ["guided", "tpe", "nsga2", "random", "grid", "RandomSampler"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_plan_beyond_a_limit_is_run_and_none_twice(
    make_task: MakeTask, sampler: str, storage: str
) -> None:
    runs: list[float] = []
    plain = make_task()

    def evaluate(model: nn.Module) -> dict[str, float]:
        runs.append(1)
        return dict(plain.evaluate(model))

    study = run(make_task(evaluate), storage, limits={"bits": 4.5}, trials=30, sampler=sampler)
    assert len(runs) == len(study.trials) == 30
    assert all(trial.metrics["bits"] <= 4.5 for trial in study.trials[1:])
    assert len(set(plans(study))) == 30


def test_the_same_seed_gives_the_same_trials(task: Task, tmp_path: Any) -> None:
    first = run(task, str(tmp_path / "a"), seed=3, sampler="guided")
    second = run(task, str(tmp_path / "b"), seed=3, sampler="guided")
    other = run(task, str(tmp_path / "c"), seed=4, sampler="guided")
    assert plans(first) == plans(second) != plans(other)
    program = [run(task, str(tmp_path / name), seed=3) for name in "de"]
    assert plans(program[0]) == plans(program[1]) != plans(first)


def test_the_grid_ends_when_all_plans_were_tried(task: Task, storage: str) -> None:
    study = run(task, storage, formats=["mxint4", "mxint8"], sampler="grid", trials=100)
    assert len(study.trials) == 1 + 2**4


def test_a_sampler_ends_when_it_finds_no_new_plan(
    task: Task, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = run(
        task, storage, formats=["mxint4", "mxint8"], sites=["0.*t"], trials=50, progress=True
    )
    assert len(study.trials) == 1 + 2**2
    words = "Ended after 5 of 50 trials: no other plan was found."
    assert words in " ".join(capsys.readouterr().err.split())


def test_an_optuna_sampler_object(task: Task, storage: str) -> None:
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=2)
    assert len(run(task, storage, sampler=sampler).trials) == 20


def test_guided_is_better_than_random_at_equal_trials(task: Task, tmp_path: Any) -> None:
    def error(sampler: str) -> float:
        study = run(task, str(tmp_path / sampler), limits={"bits": 5.0}, trials=60, sampler=sampler)
        return study.best_trial(max_bits=4.8).metrics["error"]

    assert error("guided") <= error("random")


@pytest.fixture
def failing(make_task: MakeTask) -> Callable[[Callable[[int], Any]], Task]:
    """Makes a task of which evaluation number i returns `bad(i)`, if that is not None."""

    def make(bad: Callable[[int], Any]) -> Task:
        plain, calls = make_task(), [-1]

        def evaluate(model: nn.Module) -> Any:
            calls[0] += 1
            return bad(calls[0]) or plain.evaluate(model)

        return make_task(evaluate)

    return make


def explode(i: int) -> None:
    if i in (2, 7):
        raise RuntimeError(f"out of luck at {i}")


def test_an_exception_fails_its_trial_alone(failing: Failing, storage: str) -> None:
    study = run(failing(explode), storage)
    assert {t.number: t.error for t in study.trials if t.state == "failed"} == {
        2: "RuntimeError: out of luck at 2",
        7: "RuntimeError: out of luck at 7",
    }
    assert len(study.trials) == 20
    assert study.trials[7].metrics.keys() == study.baseline.metrics.keys() - {"error"}
    assert not {2, 7} & {trial.number for trial in study.pareto()}


def test_nan_fails_its_trial_with_the_metric(failing: Failing, storage: str) -> None:
    study = run(failing(lambda i: {"error": math.nan} if i == 4 else None), storage)
    assert study.trials[4].state == "failed"
    assert "'error' = nan" in study.trials[4].error
    assert len(study.trials) == 20


def test_a_missing_metric_fails_its_trial(failing: Failing, storage: str) -> None:
    study = run(failing(lambda i: {"other": 1.0} if i == 4 else None), storage)
    assert study.trials[4].state == "failed"
    assert "but not error" in study.trials[4].error


def test_a_limit_on_a_measured_metric_shuts_trials_out_of_the_results(
    task: Task, storage: str
) -> None:
    worst = run(task, storage).trials[1].metrics["error"]
    study = run(task, storage, name="limited", limits={"error": worst / 10})
    assert [t for t in study.trials if t.metrics["error"] > worst / 10]
    assert all(t.metrics["error"] <= worst / 10 for t in study.pareto())


def test_the_fewest_bits_under_a_limit_on_what_is_no_objective(task: Task, storage: str) -> None:
    def evaluate(q: nn.Module) -> dict[str, float]:
        error = task.evaluate(q)["error"]
        return {"error": error, "quality": -error}

    errors = [t.metrics["error"] for t in run(task, storage).trials[1:5]]
    bound = errors[1]  # that of mxint4
    goal = {"objectives": {"bits": "min", "error": "min"}, "limits": {"quality": f">= {-bound}"}}
    study = run(replace(task, evaluate=evaluate), storage, name="quality", **goal)
    assert [t.label for t in study.trials[1:5]] == [f"uniform {name}" for name in FORMATS]
    assert study.trials[1] not in study.feasible
    assert study.trials[2] in study.feasible
    assert all(t.metrics["error"] <= bound for t in study.feasible)
    assert study.results()["limits"] == {"quality": -bound}
    assert study.results()["lower"] == ["quality"]
    again = run(replace(task, evaluate=evaluate), storage, name="quality", trials=20, **goal)
    assert [t.metrics for t in again.trials] == [t.metrics for t in study.trials]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objectives": {"acuracy": "max"}}, "objective 'acuracy' is no metric.*bits.*error"),
        ({"limits": {"size": 3.0}}, "limit 'size' is no metric"),
        ({"limits": {"bits": 2.0}}, "no plan meets the limit bits <= 2"),
        ({"sampler": "best"}, "sampler 'best' is unknown.*TPESampler"),
        ({"sampler": "PartialFixedSampler"}, "pass a sampler object"),
        ({"sampler": 3}, "sampler 3 is neither a name nor"),
        ({"trials": 0}, "trials=0: give an integer from 1 on"),
        ({"trials": 2.5}, r"trials=2\.5: give an integer from 1 on"),
        ({"seed": -1}, "seed=-1: give an integer from 0 on"),
        ({"qat_epochs": -1}, "qat_epochs=-1: give an integer from 0 on"),
        ({"limits": 4}, "limits are 4: write"),
        ({"formats": None}, "formats are None: give format patterns"),
        ({"sites": [3]}, "sites holds 3: give patterns of site names"),
        ({"formats": {"0.*": "mxint4"}, "sites": ["*"]}, r"sites=\['\*'\] beside formats by site"),
        ({"workers": 0}, "workers=0: give an integer from 1 on"),
        ({"qat_best": 0}, "qat_best=0: give an integer from 1 on"),
        ({"qat_best": 2}, "qat_best=2 trains no plan without qat_epochs"),
        ({"objectives": {"bits": "min"}}, "needs an objective that evaluate measures"),
        ({"on_trial": 3}, "on_trial=3: give a function"),
        ({"costs": 3}, "costs=3: give a function"),
        ({"ray": 3}, "ray=3: give the address of a cluster"),
        ({"sensitivities": "kl"}, "sensitivities='kl': give what quire.sensitivity gave"),
    ],
)
def test_mistakes_are_errors_before_anything_is_stored(
    task: Task, storage: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(StudyError, match=words):
        run(task, storage, **options)
    with pytest.raises(StudyError, match="there is no study"):
        Study.load("search", storage)


def test_a_baseline_that_fails_ends_the_search(failing: Failing, storage: str) -> None:
    with pytest.raises(StudyError, match="fp32 model cannot be evaluated: ZeroDivisionError"):
        run(failing(lambda i: 1 / 0), storage)


def test_calibration_that_does_not_fit_the_model_is_named(task: Task, storage: str) -> None:
    bad = replace(task, calibration=(torch.ones(2, 3),))
    with pytest.raises(TaskError, match=r"calibration does .* gives input_1 fp32\[2, 3\]"):
        run(bad, storage, formats=["fixed(4,fitted)"])


def test_a_metric_with_the_name_of_a_cost_is_refused(make_task: MakeTask, storage: str) -> None:
    with pytest.raises(StudyError, match="bits"):
        run(make_task(lambda model: {"error": 1.0, "bits": 2.0}), storage)


def test_a_study_goes_on_by_name(task: Task, storage: str) -> None:
    runs: list[Trial] = []
    first = run(task, storage, trials=8)
    second = run(task, storage, trials=20, on_trial=runs.append)
    assert second.trials[:8] == first.trials
    assert [trial.number for trial in runs] == list(range(8, 20))
    assert len(set(plans(second))) == 20
    assert (
        run(task, storage, trials=20).trials
        == second.trials
        == Study.load("search", storage).trials
    )
    assert len(run(task, storage, trials=5, name="another").trials) == 5


def test_the_line_of_a_resumed_search_shows_the_best_of_all_trials(
    task: Task, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(task, storage, trials=8)
    capsys.readouterr()
    study = run(task, storage, trials=9, progress=True)
    best = study.best_trial().metrics
    shown = capsys.readouterr().err
    assert f"9/9 best error {best['error']:.4g} bits {best['bits']:.4g}" in shown
    run(task, storage, trials=5, progress=True)
    shown = capsys.readouterr().err
    assert f"9/9 best error {best['error']:.4g}" in shown


def test_names_with_brackets_are_shown_whole(
    make_task: MakeTask, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = make_task(lambda model: {"error [dB]": 2.0})
    goal = {"error [dB]": "min"}
    run(task, storage, objectives=goal, trials=3, name="a [b]", progress=True)
    shown = capsys.readouterr().err
    assert shown.startswith("a [b] ")
    assert "best error [dB] 2" in shown


def test_a_model_without_products_needs_names_of_sites(storage: str) -> None:
    task = Task(nn.ReLU(), (torch.ones(2, 4),), lambda model: {"error": 1.0})
    with pytest.raises(StudyError, match=r"no product or convolution: name sites, such as input\."):
        run(task, storage)
    study = run(task, storage, sites=["relu.input"], formats=["fixed(4,2)"], sampler="grid")
    assert [dict(trial.formats) for trial in study.trials[1:]] == [{"relu.input": "fixed(4,2)"}]


def test_a_resumed_sampler_learns_what_it_had_learned(
    failing: Failing, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[tuple[Any, ...]] = []

    def learn(_: GuidedProposer, trial: optuna.trial.FrozenTrial) -> None:
        learned.append((trial.state, trial.values, trial.params, trial.system_attrs))

    monkeypatch.setattr(GuidedProposer, "learn", learn)
    task = failing(explode)
    run(task, storage, limits={"error": 1.0}, sampler="guided")
    run(task, storage, limits={"error": 1.0}, sampler="guided")
    assert len(learned) == 40
    assert learned[:20] == learned[20:]


def test_a_stored_trial_is_short(task: Task, storage: str) -> None:
    def size(trials: int) -> int:
        formats = ["fixed(2..6,fitted)", *FORMATS]
        run(task, storage, trials=trials, formats=formats, sampler="guided")
        return Path(storage).stat().st_size

    before = size(10)
    assert size(40) - before < 30 * 900


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objectives": {"error": "min"}}, r"objectives: \{'error': 'min', 'bits': 'min'\} there"),
        ({"limits": {"bits": 6.0}}, "limits"),
        ({"formats": ["mxint3", "mxint4"]}, "formats"),
        ({"sites": ["*.weight"]}, "sites"),
    ],
)
def test_another_search_under_the_same_name_is_refused(
    task: Task, storage: str, options: dict[str, Any], words: str
) -> None:
    run(task, storage, trials=3)
    with pytest.raises(StudyError, match=words):
        run(task, storage, **options)


def test_an_empty_study_with_other_objectives_is_refused(task: Task, storage: str) -> None:
    optuna.create_study(study_name="search", storage=open_storage(storage), direction="maximize")
    with pytest.raises(StudyError, match="has an empty study 'search' with other objectives"):
        run(task, storage)
    optuna.create_study(study_name="b", storage=open_storage(storage), directions=["minimize"] * 2)
    assert len(run(task, storage, name="b", trials=3).trials) == 3


def test_another_model_under_the_same_name_is_refused(task: Task, storage: str) -> None:
    run(task, storage, trials=3)
    with torch.no_grad():
        next(task.model.parameters())[0, 0] += 1
    with pytest.raises(
        StudyError, match=r"made with other settings \(the model has other weights\)"
    ):
        run(task, storage)


def test_ctrl_c_keeps_what_is_finished(
    failing: Failing, make_task: MakeTask, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(i: int) -> None:
        if i == 6:
            raise KeyboardInterrupt

    study = run(failing(interrupt), storage)
    assert study.interrupted
    assert len(study.trials) == 6
    assert "Stopped after 6 of 20 trials" in capsys.readouterr().err
    resumed = run(make_task(), storage)
    assert not resumed.interrupted
    assert resumed.trials[:6] == study.trials
    assert len(resumed.trials) == 20


def test_ctrl_c_counts_a_trial_that_was_just_stored(
    task: Task, storage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = optuna.Study.add_trial

    def interrupted(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        add(study, trial)
        if len(study.trials) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "add_trial", interrupted)
    assert len(run(task, storage, sampler="grid").trials) == 6
    assert "Stopped after 6 of 20 trials" in capsys.readouterr().err


def test_training_in_the_loop_starts_each_trial_from_the_same_weights(
    make_task: MakeTask, storage: str
) -> None:
    starts: list[float] = []
    task = make_task()
    before = [parameter.clone() for parameter in task.model.parameters()]

    def train(model: nn.Module, epochs: int) -> None:
        assert model.training
        assert epochs == 2
        parameters = list(model.parameters())
        starts.append(float(sum(p.detach().double().sum() for p in parameters)))
        with torch.no_grad():
            for parameter in parameters:
                parameter.mul_(1.5)

    study = run(replace(task, train=train), storage, qat_epochs=2, trials=6)
    assert len(starts) == 6
    assert len(set(starts)) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, task.model.parameters(), strict=True))
    plain = run(task, storage, name="plain", trials=6)
    assert study.trials[1].metrics["error"] != plain.trials[1].metrics["error"]
    with pytest.raises(TaskError, match="no train"):
        run(task, storage, qat_epochs=1)


def test_parameters_of_formats_are_searched_by_site(task: Task, storage: str) -> None:
    formats = [
        "fixed(4..16,free)",
        "minifloat(e=2..5,m=1..3)",
        "bfp(3..8,scale_bits=8,size=16|32|64)",
    ]
    study = run(task, storage, formats=formats, limits={"bits": 7.0}, trials=50)
    assert all(trial.state == "complete" for trial in study.trials)
    assert study.trials[1].label == "uniform fixed(4,fitted)"
    weights = {trial.formats["0.weight"] for trial in study.trials[1:]}
    assert len(weights) > 20
    best = study.best_trial(max_bits=7)
    assert Plan(best.formats) == best.plan
    assert best.metrics["error"] <= min(
        t.metrics["error"] for t in study.trials if t.label.startswith("uniform")
    )


def test_a_failure_of_evaluate_keeps_its_traceback(make_task: MakeTask, storage: str) -> None:
    with pytest.raises(StudyError, match="KeyError: 'k'") as caught:
        run(make_task(lambda model: {}["k"]), storage)
    assert isinstance(caught.value.__cause__, KeyError)


def test_arguments_of_the_wrong_kind_are_named(task: Task, storage: str) -> None:
    with pytest.raises(StudyError, match=r"give a quire\.Task"):
        run("mod:fn", storage)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="objectives are"):
        run(task, storage, objectives=["loss"])


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (lambda plan: None, "costs returned None of a plan: return"),
        (lambda plan: {"size": float("nan")}, "costs gave 'size' = nan: a cost is a finite number"),
        (lambda plan: {"size": torch.ones(1)}, "costs gave 'size' = tensor"),
        (
            lambda plan: {"size": 1.0, **({} if "mxint3" in str(plan) else {"more": 1.0})},
            "return the same names",
        ),
    ],
)
def test_costs_that_are_handed_in_are_checked(
    task: Task, storage: str, found: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(TaskError, match=words):
        run(task, storage, costs=lambda graph: found)


def test_a_storage_may_be_a_path(task: Task, tmp_path: Any) -> None:
    run(task, tmp_path / "postgresql.journal", trials=6)
    assert len(Study.load("search", tmp_path / "postgresql.journal").trials) == 6


def test_a_model_of_nan_has_no_sensitivities(make_task: MakeTask, storage: str) -> None:
    task = make_task(lambda model: {"error": 1.0})
    with torch.no_grad():
        next(task.model.parameters()).fill_(float("nan"))
    with pytest.raises(TaskError, match="the fp32 model gives NaN or infinity"):
        run(task, storage, objectives={"error": "min"})
