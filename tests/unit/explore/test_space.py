"""Search spaces: groups, parameters and back, uniform plans, sizes."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from optuna.distributions import IntDistribution
from torch import nn

from quire.errors import StudyError
from quire.explore import Task, search
from quire.explore.space import build_space
from quire.formats import parse
from quire.graph import Site, capture, sites
from quire.precision import Plan

FORMATS = ["mxint4", "fixed(4..6,free)", "bfp(3|5,scale_bits=8,size=16)"]


def known(task: Task) -> list[Site]:
    return list(sites(capture(task.model, task.example_inputs)).values())


def fit(group: Sequence[Site], template: str) -> int:
    return 3


def test_operands_are_searched_unless_patterns_say_otherwise(task: Task) -> None:
    found = build_space(known(task), ["mxint4"])
    assert [group.name for group in found.groups] == ["0.input", "0.weight", "2.input", "2.weight"]
    found = build_space(known(task), ["mxint4", "mxint8"], ["*.weight", "0.bias"])
    assert [group.name for group in found.groups] == ["0.weight", "0.bias", "2.weight"]


def test_lists_by_pattern_the_last_match_wins(task: Task) -> None:
    lists = {"*.weight": ["mxint4", "mxint8"], "2.*": ["mxint6"], "2.bias": ["fixed(8,4)"]}
    found = build_space(known(task), lists)
    assert {g.name: [c.format for c in g.candidates] for g in found.groups} == {
        "0.weight": ["mxint4", "mxint8"],
        "2.input": ["mxint6"],
        "2.weight": ["mxint6"],
        "2.bias": ["fixed(8,4)"],
    }


def test_every_plan_survives_the_way_through_optunas_parameters(task: Task) -> None:
    space = build_space(known(task), FORMATS, fit=fit)
    assert space.size == (1 + 3 * 5 + 2) ** 4
    rng = random.Random(0)
    for _ in range(50):
        genome = tuple(rng.randrange(len(g.candidates)) for g in space.groups)
        params = space.params(genome)
        assert params.keys() == space.distributions.keys()
        assert space.genome(params) == genome
        for name, value in params.items():
            internal = space.distributions[name].to_internal_repr(value)
            assert space.distributions[name]._contains(internal)


def test_uniform_plans_take_fitted_integers(task: Task) -> None:
    space = build_space(known(task), FORMATS, fit=fit)
    uniform = {label: set(space.formats(g).values()) for label, g in space.uniform().items()}
    assert uniform == {
        "mxint4": {"mxint4"},
        "fixed(4,fitted)": {"fixed(4,3)"},
        "fixed(5,fitted)": {"fixed(5,3)"},
        "fixed(6,fitted)": {"fixed(6,3)"},
        "bfp(3,scale_bits=8,size=16)": {"bfp(3,scale_bits=8,size=16)"},
        "bfp(5,scale_bits=8,size=16)": {"bfp(5,scale_bits=8,size=16)"},
    }


def test_the_cheapest_plan_counts_scales(task: Task) -> None:
    space = build_space(known(task), ["fixed(4,2)", "bfp(4,scale_bits=8,size=16)", "mxint8"])
    assert set(space.formats(space.cheapest).values()) == {"fixed(4,2)"}


def test_a_neighbour_differs_at_one_site(task: Task) -> None:
    space = build_space(known(task), FORMATS, fit=fit)
    rng = random.Random(0)
    genome = space.cheapest
    for _ in range(20):
        other = space.neighbour(genome, rng)
        assert sum(a != b for a, b in zip(genome, other, strict=True)) == 1
        genome = other


def test_formats_that_a_site_cannot_have_are_left_out(task: Task) -> None:
    with pytest.raises(StudyError, match="matches no site"):
        build_space(known(task), ["mxint4"], ["nothing.*"])
    with pytest.raises(StudyError, match="no format to choose from"):
        build_space(known(task), [])


def test_fitting_needs_data(task: Task) -> None:
    with pytest.raises(StudyError, match="no calibration data"):
        build_space(known(task), ["fixed(4,fitted)"])


class Attention(nn.Module):
    """Two softmax inputs, a norm, a scalar constant."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.heads = nn.LayerNorm(16), nn.Linear(16, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.heads(self.norm(x)).chunk(3, -1)
        return (nn.functional.scaled_dot_product_attention(q, k, v) * 0.7).mean(1)


@pytest.fixture
def attention() -> Task:
    torch.manual_seed(0)
    x = torch.randn(6, 5, 16)

    def loss(model: nn.Module) -> dict[str, float]:
        return {"loss": float(model(x).square().mean())}

    return Task(Attention().eval(), (x,), loss)


@pytest.mark.parametrize("formats", [["mxint4", "mxint6"], ["fixed(8..12,4)", "mxint6"]])
def test_a_wildcard_leaves_out_what_no_format_suits(attention: Task, formats: list[str]) -> None:
    space = build_space(known(attention), formats, ["*"])
    assert all(group.candidates for group in space.groups)
    plan = Plan(space.formats(space.cheapest))
    plan.check(capture(attention.model, attention.example_inputs))
    rng = random.Random(0)
    for _ in range(20):  # samplers draw settings that some sites cannot take
        params = {n: d.to_external_repr(0.0) for n, d in space.distributions.items()}
        params |= {
            n: rng.randint(d.low, d.high)
            for n, d in space.distributions.items()
            if isinstance(d, IntDistribution)
        }
        Plan(space.formats(space.genome(params))).check(
            capture(attention.model, attention.example_inputs)
        )


def test_a_site_named_exactly_needs_a_legal_format(attention: Task) -> None:
    with pytest.raises(StudyError, match=r"norm.input takes fixed\(w,f\), not mxint4"):
        build_space(known(attention), ["mxint4"], ["norm.input"])


@pytest.mark.parametrize("sampler", ["guided", "tpe"])
@pytest.mark.parametrize(
    "formats", [["mxint4", "mxint6"], ["fixed(8,4)", "mxint6"], ["fixed(9..12,free)"]]
)
def test_every_site_can_be_searched(
    attention: Task, formats: list[str], sampler: str, storage: str
) -> None:
    goal = {"loss": "min", "bits": "min"}
    study = search(
        attention, formats, goal, sites=["*"], trials=8, sampler=sampler, storage=storage
    )
    assert [trial.error for trial in study.trials] == [""] * 8


@pytest.mark.parametrize(
    "formats", ["mxint4", parse("mxint4"), [parse("mxint4")], ["mxint4", "mxint4"]]
)
def test_formats_may_be_one_or_records_and_count_once(task: Task, formats: Any) -> None:
    space = build_space(known(task), formats, "*.weight")
    assert [[c.format for c in g.candidates] for g in space.groups] == [["mxint4"]] * 2


def test_no_sites_are_an_error(task: Task) -> None:
    with pytest.raises(StudyError, match="sites is empty"):
        build_space(known(task), ["mxint4"], [])


@pytest.mark.parametrize("pattern", ["fixed(4..16,free)", "minifloat(e=4,m=3..9)", "bfp(6..12)"])
def test_formats_that_the_dtype_does_not_hold_are_no_candidates(
    task: Task, pattern: str, storage: str
) -> None:
    def evaluate(model: nn.Module) -> dict[str, float]:
        return {"error": float(model(x).float().square().mean())}

    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    small = Task(task.model.bfloat16(), (x,), evaluate)
    study = search(
        small,
        [pattern],
        {"error": "min", "bits": "min"},
        trials=30,
        storage=storage,
        sampler="random",
        progress=False,
    )
    assert len(study.trials) == 30
    assert {trial.state for trial in study.trials} == {"complete"}
    widths = {parse(f).bits for trial in study.trials for f in trial.formats.values()}
    assert len(widths) > 2


def test_a_dtype_that_holds_none_of_the_formats(task: Task) -> None:
    task.model.bfloat16()
    small = Task(task.model, (torch.randn(2, 32).bfloat16(),), task.evaluate)
    with pytest.raises(StudyError, match=r"0.input, for one, takes any format that fits bfloat16"):
        build_space(known(small), ["fixed(16,free)"], fit=lambda group, template: None)
