"""Sensitivities: their definition, what first-order scores predict, the cache, the records."""

import csv
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional

import quire
from quire.errors import StudyError, TaskError
from quire.explore import Sensitivities, Task, sensitivity
from quire.explore.clock import Clock
from quire.explore.measurements import Measurements
from quire.explore.sensitivity import KINDS
from quire.explore.workbench import Workbench
from quire.graph import capture
from quire.precision import quantize

FORMATS = ["mxint3", "mxint4", "fixed(4,fitted)", "mxint8"]


def measure(task: Task, storage: str, **options: Any) -> Sensitivities:
    given: dict[str, Any] = {"formats": FORMATS, "progress": False} | options
    return sensitivity(task, storage=storage, **given)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The {site: format} of each run of the model."""
    seen: list[dict[str, str]] = []
    use = Workbench.use

    def counted(bench: Workbench, formats: dict[str, str]) -> Any:
        seen.append(dict(formats))
        return use(bench, formats)

    monkeypatch.setattr(Workbench, "use", counted)
    return seen


def kl(reference: Tensor, outputs: Tensor) -> float:
    p, q = reference.double().log_softmax(-1), outputs.double().log_softmax(-1)
    return float(functional.kl_div(q, p, log_target=True, reduction="batchmean"))


def test_each_value_is_the_kl_of_the_graph_with_one_cast(task: Task, storage: str) -> None:
    found = measure(task, storage, prune=())
    assert (found.kind, found.evaluations) == ("kl", 4 * 4 + 1)
    graph = capture(task.model, task.example_inputs)
    (x,) = task.calibration or ()
    with torch.no_grad():
        reference = graph(x)
        for site, format, _, value in found.rows():
            expected = kl(reference, quantize(graph, quire.Plan({site: format}))(x))
            assert value == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert [row[:2] for row in found.rows()][:5:4] == [
        ("0.input", "mxint3"),
        ("0.weight", "mxint3"),
    ]


def test_outputs_that_are_no_logits_are_compared_by_their_error_energy(storage: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 1)).eval()
    x = torch.randn(64, 32)
    task = Task(model, (x[:2],), lambda model: {"error": 0.0}, (x,))
    found = measure(task, storage, prune=())
    assert found.kind == "error"
    assert "error energy" in found.loss
    graph = capture(model, (x[:2],))
    with torch.no_grad():
        y = graph(x).double()
        q = quantize(graph, quire.Plan({"0.weight": "mxint4"}))(x).double()
    expected = float((q - y).square().sum() / y.square().sum())
    assert found.values["0.weight"]["mxint4"] == pytest.approx(expected, rel=1e-12)


def test_scores_predict_isolated_changes(task: Task, storage: str) -> None:
    """One draw of the labels of 64 rows is within a factor of two."""
    wide = ["mxint6", "mxint8"]  # small changes, for which the second order is the change
    isolated = measure(task, storage, prune=(), formats=wide)
    scores = measure(task, storage, kind="fisher", formats=wide)
    assert scores.evaluations == 4
    for row, scored in zip(isolated.rows(), scores.rows(), strict=True):
        assert 0.5 < scored[3] / row[3] < 2.0, row


def test_scores_of_a_convolution_whose_blocks_lie_in_windows(storage: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)).eval()
    x = torch.randn(64, 4, 6, 6)
    task = Task(model, (x[:2],), lambda model: {"error": 0.0}, (x,))
    isolated = measure(task, storage, prune=(), formats=["mxint6"])
    scores = measure(task, storage, kind="fisher", formats=["mxint6"])
    assert list(scores.values) == ["0.input", "0.weight", "3.input", "3.weight"]
    for row, scored in zip(isolated.rows(), scores.rows(), strict=True):
        assert 0.3 < scored[3] / row[3] < 3.0, row


def test_inputs_by_name_and_logits_in_a_mapping(storage: str) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 5)

        def forward(self, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
            return {"loss": x.sum(), "logits": self.fc(x * scale)}

    torch.manual_seed(0)
    batch = {"scale": torch.rand(16, 8), "x": torch.randn(16, 8)}
    task = Task(Named().eval(), batch, lambda model: {"error": 0.0})
    found = measure(task, storage, prune=(), formats=["mxint4"])
    assert found.kind == "kl"
    graph = capture(task.model, batch)
    with torch.no_grad():
        q = quantize(graph, quire.Plan({"fc.weight": "mxint4"}))(**batch)["logits"]
        expected = kl(graph(**batch)["logits"], q)
    assert found.values["fc.weight"]["mxint4"] == pytest.approx(expected, rel=1e-9)


def test_scores_of_a_linear_model_are_their_expectation(storage: str) -> None:
    """Of one linear output: the energy of each input's error times its weight, the sign's square
    being one whatever is drawn."""
    torch.manual_seed(0)
    model = nn.Linear(16, 1, bias=False).eval()
    x = torch.randn(32, 16)
    task = Task(model, (x[:2],), lambda model: {"error": 0.0}, (x,))
    scores = measure(task, storage, kind="fisher", formats=["fixed(6,3)"], sites=["linear.input"])
    error = quire.formats.parse("fixed(6,3)").quantize(x) - x
    with torch.no_grad():
        expected = (error.double() * model.weight).square().sum() / model(x).square().sum()
    assert scores.values["linear.input"]["fixed(6,3)"] == pytest.approx(float(expected), rel=1e-6)
    assert scores.loss.startswith("first-order score of error energy")


def test_a_choice_that_costs_no_less_and_scores_no_better_is_left_out(
    task: Task, storage: str
) -> None:
    formats = ["mxint4", "bl(4,scale_bits=8,size=32)", "mxint8"]  # the second costs as the first
    scores = measure(task, storage, kind="fisher", formats=formats)
    found = measure(task, storage, formats=formats)
    for site, row in scores.values.items():
        worse = max(["mxint4", formats[1]], key=lambda format: row[format])
        assert set(found.values[site]) == set(formats) - {worse}
    assert found.evaluations == 1 + 3 + len(found.rows()) == 1 + 3 + 2 * 4


def test_what_is_measured_once_is_kept_for_other_formats_and_searches(
    task: Task, storage: str, runs: list[dict[str, str]]
) -> None:
    first = measure(task, storage, prune=())
    assert len(runs) == 1 + 16
    del runs[:]
    again = measure(task, storage, prune=())
    assert runs == [{}]  # the fp32 model
    assert again == first
    more = measure(task, storage, prune=(), formats=[*FORMATS, "mxfp4"])
    assert runs[2:] == [{site: "mxfp4"} for site in first.values]
    assert all(
        more.values[site][f] == first.values[site][f] for site in first.values for f in FORMATS[:2]
    )


def test_other_weights_or_data_are_measured_anew(
    task: Task, storage: str, runs: list[dict[str, str]]
) -> None:
    measure(task, storage, prune=())
    (x,) = task.calibration or ()
    del runs[:]
    measure(replace(task, calibration=(x[:32],)), storage, prune=())
    assert len(runs) == 17
    with torch.no_grad():
        task.model[0].weight[0, 0] += 1  # type: ignore[index,union-attr]
    del runs[:]
    measure(task, storage, prune=())
    assert len(runs) == 17


def test_values_are_the_same_in_any_order(task: Task, tmp_path: Path) -> None:
    first = measure(task, str(tmp_path / "a"), prune=())
    backwards = measure(task, str(tmp_path / "b"), prune=(), formats=FORMATS[::-1])
    assert {s: dict(row) for s, row in backwards.values.items()} == first.values
    assert measure(task, str(tmp_path / "c"), kind="fisher").values == (
        measure(task, str(tmp_path / "d"), kind="fisher", formats=FORMATS[::-1]).values
    )


def test_ctrl_c_keeps_what_is_finished(
    task: Task,
    storage: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    runs: list[dict[str, str]],
) -> None:
    counted = Workbench.use

    def use(bench: Workbench, formats: dict[str, str]) -> Any:
        if len(runs) == 6:
            raise KeyboardInterrupt
        return counted(bench, formats)

    monkeypatch.setattr(Workbench, "use", use)
    with pytest.raises(KeyboardInterrupt):
        measure(task, storage, prune=(), progress=True)
    shown = " ".join(capsys.readouterr().err.split())
    assert "sensitivities: 5 of 16 are kept; the same call goes on." in shown
    monkeypatch.setattr(Workbench, "use", counted)
    del runs[:]
    measure(task, storage, prune=())
    assert len(runs) == 1 + 11


KILLED = """
import sys, time
from killed_task import task
from quire.explore.sensitivity import Isolate, sensitivity

isolated = Isolate.__call__

def slowly(*arguments):
    time.sleep(0.02)
    return isolated(*arguments)

Isolate.__call__ = slowly
sensitivity(task(), ["mxint{}".format(n) for n in range(2, 9)], storage=sys.argv[1], prune=())
"""

TASK = """
import torch
from torch import nn
from quire.explore import Task

def task():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    return Task(model, (torch.randn(16, 32),), lambda model: {"error": 0.0})
"""


def test_a_killed_measurement_loses_nothing_that_was_finished(
    tmp_path: Path, runs: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "study.journal"
    (tmp_path / "killed_task.py").write_text(TASK)
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(storage)], cwd=tmp_path)
    while not storage.exists() or storage.read_bytes().count(b"\n") < 10:
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.syspath_prepend(tmp_path)
    task = Task.resolve("killed_task:task")
    bench = Workbench(task, 0, Clock())
    kept = sum(map(len, Measurements(str(storage), "kl", bench.digest()).values.values()))
    assert 0 < kept < 28
    formats = [f"mxint{n}" for n in range(2, 9)]
    resumed = measure(task, str(storage), prune=(), formats=formats)
    assert len(runs) == 1 + 28 - kept
    assert resumed == measure(task, str(tmp_path / "other"), prune=(), formats=formats)


def test_several_batches_count_as_one_evaluation(task: Task, tmp_path: Path) -> None:
    (x,) = task.calibration or ()
    halves: Any = [(x[:32],), (x[32:],)]
    whole = measure(task, str(tmp_path / "a"), prune=(), formats=["mxint4"])
    parts = measure(
        replace(task, calibration=halves), str(tmp_path / "b"), prune=(), formats=["mxint4"]
    )
    assert parts.evaluations == whole.evaluations == 5
    for site, row in whole.values.items():
        assert parts.values[site]["mxint4"] == pytest.approx(row["mxint4"], rel=1e-4)


def test_plans_within_limits_need_no_further_evaluation(
    task: Task, storage: str, runs: list[dict[str, str]]
) -> None:
    found = measure(task, storage)
    del runs[:]
    graph = capture(task.model, task.example_inputs)
    plans = found.front("bits", [2.0, 4.0, 4.5, 5.0, 9.0])
    assert 2 < len(plans) <= 4
    assert runs == []
    bounds = [quire.cost(graph, plan).bits for plan in plans]
    assert bounds == sorted(bounds)
    assert quire.cost(graph, found.plan(bits=4.5, weight_bits=4.3)).weight_bits <= 4.3
    with pytest.raises(StudyError, match="the limit bits <= 2: the least is 3"):
        found.plan(bits=2.0)


def test_tied_sites_are_one_row(storage: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.fc(x)))

    torch.manual_seed(0)
    task = Task(Tied().eval(), (torch.randn(4, 8),), lambda model: {"error": 0.0})
    found = measure(task, storage, sites=["*weight"], prune=("bits", "bitops"))
    assert list(found.values) == ["fc.weight"]
    assert found.plan(bits=20.0).keys() == {site.name for site in found.space.groups[0].sites}


def test_a_number_in_the_code_has_no_gradient_and_is_measured(storage: str) -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 0.3

    task = Task(Scaled(), (torch.randn(4, 8),), lambda model: {"error": 0.0})
    formats = {"mul.constant": "fixed(5,3)", "mul.input": "fixed(5,3)"}
    isolated = measure(task, storage, formats=formats, prune=())
    scores = measure(task, storage, formats=formats, kind="fisher")
    assert scores.values["mul.constant"] == isolated.values["mul.constant"]
    assert scores.values["mul.input"] != isolated.values["mul.input"]
    assert isolated.values["mul.constant"]["fixed(5,3)"] > 0
    assert scores.evaluations == 1 + 3 + 1


def test_the_table_and_the_file_hold_every_value(task: Task, storage: str, tmp_path: Path) -> None:
    found = measure(task, storage, prune=())
    found.save_csv(tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [
        (r["site"], r["format"], float(r["bits"]), float(r["kl"])) for r in rows
    ] == found.rows()
    console = Console(width=200)
    with console.capture() as shown:
        console.print(found)
    assert "KL(fp32 || quantized)" in shown.get()
    assert f"{found.values['2.weight']['mxint3']:.2g}" in shown.get()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "hessian"}, f"kind='hessian': give one of {', '.join(KINDS)}"),
        ({"prune": ("size",)}, "prune names 'size': give costs, of bits, weight_bits"),
        ({"formats": []}, "site 0.input has no format"),
    ],
)
def test_mistakes_are_named(task: Task, storage: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError) as caught:
        measure(task, storage, **options)
    assert words in str(caught.value)


def test_a_model_without_a_real_output_is_refused(storage: str) -> None:
    class Argmax(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).argmax(-1)

    task = Task(Argmax().eval(), (torch.randn(4, 8),), lambda model: {"error": 0.0})
    with pytest.raises(TaskError, match="no floating-point output"):
        measure(task, storage)


def test_calibration_that_does_not_fit_is_named(
    make_task: Callable[..., Task], storage: str
) -> None:
    bad = replace(make_task(), calibration=(torch.ones(2, 3),))
    with pytest.raises(TaskError, match="calibration does not run through the model"):
        measure(bad, storage, formats=["mxint4"])
