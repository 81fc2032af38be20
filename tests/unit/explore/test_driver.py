"""Searches that share a study, and plans that are trained at the end."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import nn

from quire.errors import StudyError
from quire.explore import Study, Task, Trial, search
from quire.explore.clock import Clock
from quire.explore.ledger import Ledger, Seat
from quire.explore.records import find_study
from quire.explore.storage import open_storage
from quire.explore.workbench import Workbench
from quire.explore.workers import Alone
from quire.report import StudyResults, page

MakeTask = Callable[..., Task]
FORMATS = ["mxint3", "mxint4", "mxint6", "mxint8"]


def run(task: Task, storage: str, **options: Any) -> Study:
    given: dict[str, Any] = {"trials": 20, "progress": False} | options
    return search(task, FORMATS, {"error": "min", "bits": "min"}, storage=storage, **given)


def test_searches_that_join_share_the_trials(make_task: MakeTask, storage: str) -> None:
    plain = make_task()
    owners: dict[int, list[int]] = {0: [], 1: []}
    evaluations: list[int] = []
    second_evaluates = threading.Event()

    def start(driver: int) -> Study:
        def evaluate(model: nn.Module) -> dict[str, float]:
            evaluations.append(driver)
            if driver:
                second_evaluates.set()
            return dict(plain.evaluate(model))

        def told(trial: Trial) -> None:
            owners[driver].append(trial.number)
            if driver == 0 and len(owners[0]) == 6:
                assert second_evaluates.wait(60)

        return run(make_task(evaluate), storage, trials=40, join=True, on_trial=told)

    studies: list[Study] = []
    first = threading.Thread(target=lambda: studies.append(start(0)))
    first.start()
    while len(owners[0]) < 6:
        first.join(0.01)
    studies.append(start(1))  # with the same seed
    first.join()
    assert studies[0].trials == studies[1].trials
    plans = Counter(json.dumps(trial.formats) for trial in studies[0].trials)
    assert len(plans) == len(studies[0].trials) == len(evaluations) == 40
    assert sorted(owners[0] + owners[1]) == list(range(1, 40))
    assert owners[1]
    assert not list(Path(storage).parent.glob("*.lock"))


def test_a_second_search_of_a_study_is_refused_unless_both_join(
    make_task: MakeTask, storage: str
) -> None:
    plain, refused = make_task(), list[str]()

    def evaluate(model: nn.Module) -> dict[str, float]:
        for join in (False, True):
            with pytest.raises(StudyError) as error:
                run(plain, storage, join=join)
            refused.append(str(error.value))
        return dict(plain.evaluate(model))

    study = run(make_task(evaluate), storage, trials=2)
    assert len(study.trials) == 2
    assert len(refused) == 4
    assert all("is being searched by process" in words for words in refused)


def claimed_and_killed(storage: str, format: str, others: dict[str, str]) -> dict[str, str]:
    """The plan of one format, but for others, that a driver claims before it is killed."""
    stored = find_study("search", storage)
    assert stored is not None
    seat = Seat("search", storage, shared=True)
    study = Study.from_stored(stored)
    ledger = Ledger(stored, seat, study.objectives, Clock())
    plan = dict.fromkeys(study.trials[1].formats, format) | others
    with ledger.turn():
        ledger.claim(ledger.key(plan))
    seat.close()  # as a kill does
    return plan


def test_a_plan_that_a_dead_driver_had_claimed_is_retried(task: Task, storage: str) -> None:
    run(task, storage, trials=6, join=True)
    plan = claimed_and_killed(storage, "mxint4", {"0.input": "mxint8"})
    again = run(task, storage, trials=7, join=True)
    assert dict(again.trials[6].formats) == plan


def test_a_uniform_plan_of_a_dead_driver_keeps_its_name(task: Task, storage: str) -> None:
    run(task, storage, trials=2, join=True)
    plan = claimed_and_killed(storage, "mxint6", {})
    again = run(task, storage, trials=5, join=True)
    (trial,) = (trial for trial in again.trials if trial.formats == plan)
    assert trial.label == "uniform mxint6"


def test_a_claim_of_a_driver_at_work_counts_and_is_left_alone(
    task: Task, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quire.explore.driver.PAUSE", 0.01)
    first = run(task, storage, trials=6, join=True)
    stored = find_study("search", storage)
    assert stored is not None
    seat = Seat("search", storage, shared=True)
    ledger = Ledger(stored, seat, first.objectives, Clock())
    plan = dict.fromkeys(first.trials[1].formats, "mxint4") | {"0.input": "mxint8"}
    with ledger.turn():
        ledger.claim(ledger.key(plan))
    trial = replace(first.trials[1], formats=plan, label="")
    timer = threading.Timer(0.3, lambda: ledger.keep(trial, {}))
    again = run(task, storage, trials=8, join=True, on_trial=lambda own: timer.start())
    timer.join()  # the search ran one trial and waited for that one
    seat.close()
    assert len(again.trials) == 8
    assert dict(again.trials[7].formats) == plan
    assert again.trials[7].metrics == trial.metrics


def test_a_trial_that_was_stored_twice_counts_once(task: Task, storage: str) -> None:
    study = run(task, storage, trials=8)
    stored = optuna.load_study(study_name="search", storage=open_storage(storage))
    stored.add_trial(stored.get_trials()[4])
    assert Study.load("search", storage).trials == study.trials
    assert len(run(task, storage, trials=9).trials) == 9


class Three(Alone):
    """Workers whose answers come three at a time."""

    slots = 3


def test_ctrl_c_between_answers_loses_none(
    make_task: MakeTask, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def hired(bench: Workbench, *rest: object) -> Generator[Three]:
        yield Three(bench)

    monkeypatch.setattr("quire.explore.run.hire", hired)
    plain, evaluations = make_task(), list[int]()

    def evaluate(model: nn.Module) -> dict[str, float]:
        evaluations.append(1)
        return dict(plain.evaluate(model))

    def stop(trial: Trial) -> None:
        if trial.number == 8:
            raise KeyboardInterrupt

    study = run(make_task(evaluate), storage, on_trial=stop)
    assert study.interrupted
    assert len(study.trials) == len(evaluations) > 9


def train(model: nn.Module, epochs: int) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + epochs / 1000)


def test_the_best_plans_are_trained_at_the_end(task: Task, storage: str) -> None:
    trainable = replace(task, train=train)
    study = run(trainable, storage, limits={"bits": 5.0}, qat_epochs=3, qat_best=2)
    found, trained = study.trials[:20], study.trials[20:]
    assert [trial.label for trial in trained] == ["qat 3", "qat 3"]
    assert not [trial for trial in found if trial.label.startswith("qat")]
    plain = run(task, storage, name="plain", limits={"bits": 5.0})
    assert [t.metrics for t in plain.trials] == [t.metrics for t in found]
    best = plain.pareto()[:2]
    assert [t.formats for t in trained] == [t.formats for t in best]
    assert all(t.metrics["error"] != b.metrics["error"] for t, b in zip(trained, best, strict=True))


def test_training_the_best_goes_on_where_it_ended(task: Task, storage: str) -> None:
    trainings: list[int] = []

    def interrupted(model: nn.Module, epochs: int) -> None:
        if len(trainings) == 1:
            raise KeyboardInterrupt
        trainings.append(epochs)

    options: dict[str, Any] = {"qat_epochs": 3, "qat_best": 3}
    first = run(replace(task, train=interrupted), storage, **options)
    assert first.interrupted
    assert len(first.trials) == 21
    second = run(replace(task, train=train), storage, **options)
    assert second.trials[:21] == first.trials
    assert [trial.label for trial in second.trials[20:]] == ["qat 3"] * 3
    assert len({json.dumps(t.formats) for t in second.trials[20:]}) == 3
    assert run(replace(task, train=train), storage, **options).trials == second.trials
    longer = run(replace(task, train=train), storage, trials=24, **options)
    assert sum(not trial.label.startswith("qat") for trial in longer.trials) == 24
    other = run(replace(task, train=train), storage, trials=24, qat_epochs=4, qat_best=1)
    assert other.trials[-1].label == "qat 4"


def test_a_search_without_training_can_be_followed_by_one_with(task: Task, storage: str) -> None:
    plain = run(task, storage)
    study = run(replace(task, train=train), storage, qat_epochs=1, qat_best=1)
    assert study.trials[:20] == plain.trials
    assert [trial.label for trial in study.trials[20:]] == ["qat 1"]
    assert dict(study.trials[20].formats) == dict(plain.pareto()[0].formats)


def test_the_same_study_file_gives_the_same_page(task: Task, storage: str, tmp_path: Path) -> None:
    run(task, storage, trials=12)
    pages: list[bytes] = []
    for i in range(2):
        results = tmp_path / f"{i}.json"
        Study.load("search", storage).save(results)
        page(StudyResults.load(results), tmp_path / f"{i}.html")
        pages.append((tmp_path / f"{i}.html").read_bytes())
    assert pages[0] == pages[1]
