"""Corrections as candidates of a search: where they stand, what they score, what a trial runs."""

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import quire
from quire.errors import StudyError
from quire.explore import Task, search, sensitivity
from quire.explore.clock import Clock
from quire.explore.space import build_space
from quire.explore.workbench import Workbench
from quire.graph import capture, sites
from quire.precision import Plan, correct, quantize

FORMATS = ["mxint3", "mxint3+gptq", "mxint3+gptq+bias", "int4", "int4+clip"]


@pytest.fixture
def task() -> Task:
    """Correlated inputs with a mean, so that corrections have something to gain."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 4, bias=False)).eval()
    x = torch.randn(64, 32) @ torch.randn(32, 32) / 5 + 0.3
    y = model(x).detach()

    def error(q: nn.Module) -> dict[str, float]:
        return {"error": float((q(x) - y).square().mean())}

    def train(model: nn.Module, epochs: int) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + epochs / 8)

    return Task(model, (x[:2],), error, (x,), train)


def candidates(task: Task, formats: Any, selected: Any = None) -> dict[str, list[str]]:
    known = sites(capture(task.model, task.example_inputs)).values()
    space = build_space(known, formats, selected)
    return {group.name: [c.format for c in group.candidates] for group in space.groups}


def test_wildcards_leave_out_what_cannot_be_corrected(task: Task) -> None:
    assert candidates(task, FORMATS) == {
        "0.input": ["mxint3", "int4", "int4+clip"],
        "0.weight": FORMATS,
        "2.input": ["mxint3", "int4", "int4+clip"],
        "2.weight": ["mxint3", "mxint3+gptq", "int4", "int4+clip"],
    }


@pytest.mark.parametrize(
    ("site", "format", "message"),
    [
        ("0.input", "mxint4+gptq", r"mxint4\+gptq: 0.input, input of linear, has no correction"),
        ("2.weight", "mxint4+bias", r"no correction 'bias', .*; legal here: 'clip' with"),
        ("2.weight", "fixed(4..5,2)+clip", "no correction 'clip', .*legal here: 'gptq' with"),
    ],
)
def test_a_site_named_exactly_has_to_take_them(
    task: Task, site: str, format: str, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        candidates(task, {site: ["mxint4", format]})


def test_they_are_free(task: Task) -> None:
    bench = Workbench(task, 0, Clock())
    plain = bench.costs({"0.weight": "mxint3", "2.input": "int4"})
    assert bench.costs({"0.weight": "mxint3+gptq+bias", "2.input": "int4+clip"}) == plain


def test_a_trial_runs_the_corrected_graph(task: Task, storage: str) -> None:
    goal = {"error": "min", "bits": "min"}
    study = search(
        task, FORMATS, goal, trials=25, storage=storage, sampler="random", progress=False
    )
    graph = capture(task.model, task.example_inputs)
    tried = {text for trial in study.trials for text in trial.formats.values()}
    assert tried == set(FORMATS)
    for trial in study.trials:
        assert trial.state == "complete"
        q = quantize(*correct(graph, trial.plan, task.calibration or ()))
        with torch.no_grad():
            assert task.score(q) == {"error": pytest.approx(trial.metrics["error"], rel=1e-5)}
    best = study.best()
    assert Plan.from_json(best.to_json()) == best


def test_a_trained_trial_starts_from_the_corrected_weights(task: Task) -> None:
    bench = Workbench(task, 2, Clock())
    formats = {"0.weight": "mxint3+gptq+bias", "0.input": "int4+clip"}
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    measured = bench.measure(formats, 2)
    graph = capture(task.model, task.example_inputs)
    corrected, plan = correct(graph, Plan(formats), task.calibration or ())
    q = quantize(quire.precision.copy_graph(corrected, share=False), plan)
    assert task.train is not None
    task.train(q, 2)
    with torch.no_grad():
        assert measured.metrics == {"error": pytest.approx(task.score(q)["error"], rel=1e-5)}
    assert all(torch.equal(tensor, before[n]) for n, tensor in task.model.state_dict().items())


def test_sensitivities_are_those_of_the_corrected_graph(task: Task, storage: str) -> None:
    found = sensitivity(task, FORMATS, storage=storage, prune=(), progress=False)
    graph = capture(task.model, task.example_inputs)
    (x,) = task.calibration or ()
    with torch.no_grad():
        p = graph(x).double().log_softmax(-1)
        for site, format, _, value in found.rows():
            q = quantize(*correct(graph, Plan({site: format}), x))(x).double().log_softmax(-1)
            kl = float(functional.kl_div(q, p, log_target=True, reduction="batchmean"))
            assert value == pytest.approx(kl, rel=1e-4, abs=1e-12)
    weight = found.values["0.weight"]
    assert weight["mxint3+gptq"] < 0.9 * weight["mxint3"]


def test_a_score_falls_with_the_error_that_a_correction_leaves(task: Task, storage: str) -> None:
    formats = ["mxint5", "mxint5+gptq", "mxint5+gptq+bias"]
    scores = sensitivity(
        task, formats, sites=["0.weight"], storage=storage, kind="fisher", progress=False
    ).values["0.weight"]
    (x,) = task.calibration or ()
    graph = capture(task.model, task.example_inputs)
    layer = task.model[0]  # type: ignore[index]

    @torch.no_grad()
    def left(format: str) -> float:
        corrected, _ = correct(graph, Plan({"0.weight": format}), x)
        weight, bias = corrected.get_parameter("0.weight"), corrected.get_parameter("0.bias")
        cast = quire.cast(weight, "mxint5", 1).double()
        product = functional.linear(x.double(), cast, bias.double())
        exact = functional.linear(x.double(), layer.weight.double(), layer.bias.double())
        return float((product - exact).square().sum())

    for format in formats:
        ratio = scores[format] / scores["mxint5"]
        assert ratio == pytest.approx(left(format) / left("mxint5"), rel=1e-3)
    assert scores["mxint5+gptq+bias"] < scores["mxint5+gptq"] < scores["mxint5"]

    pruned = sensitivity(task, formats, sites=["0.weight"], storage=storage, progress=False)
    assert list(pruned.values["0.weight"]) == ["mxint5+gptq+bias"]


def test_each_correction_is_made_once(
    task: Task, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    module = import_module("quire.precision.correct")
    make, observe = module.Corrector._weight, module.observe_inputs
    made: list[str] = []

    def counted(corrector: Any, group: Any, entry: Any) -> Any:
        made.append(f"{group[0].tie} {entry}")
        return make(corrector, group, entry)

    def counted_observation(*args: Any) -> Any:
        made.append("observed")
        return observe(*args)

    monkeypatch.setattr(module.Corrector, "_weight", counted)
    monkeypatch.setattr(module, "observe_inputs", counted_observation)
    goal = {"error": "min", "bits": "min"}
    search(task, FORMATS[:3], goal, trials=14, storage=storage, sampler="random", progress=False)
    assert sorted(made) == [
        "0.weight mxint3+gptq",
        "0.weight mxint3+gptq+bias",
        "2.weight mxint3+gptq",
        "observed",
    ]
