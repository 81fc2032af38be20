"""Plans within limits: repaired ones meet them, and are not smaller than they must be."""

import random
from collections.abc import Mapping

import pytest

from quire.errors import StudyError
from quire.explore import Task
from quire.explore.limits import Terrain
from quire.explore.objectives import Objectives
from quire.explore.space import Space, build_space
from quire.graph import capture, sites
from quire.precision import CostModel, Plan


@pytest.fixture
def terrain(task: Task) -> Terrain:
    return make_terrain(task, 5.0)


def make_terrain(task: Task, bits: float) -> Terrain:
    graph = capture(task.model, task.example_inputs)
    model = CostModel(graph)

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        return model(Plan(formats)).metrics()

    space: Space = build_space(sites(graph).values(), ["mxint3", "mxint4", "mxint6", "mxint8"])
    return Terrain(space, Objectives({"error": "min"}, {"bits": bits}), costs)


def test_repaired_plans_meet_the_limit_and_use_it(terrain: Terrain) -> None:
    rng = random.Random(0)
    sizes: list[float] = []
    for _ in range(100):
        genome = tuple(rng.randrange(4) for _ in terrain.space.groups)
        repaired = terrain.repair(genome, rng)
        assert terrain.admits(repaired)
        if terrain.admits(genome):
            assert repaired == genome
        else:
            pairs = zip(terrain.space.groups, genome, repaired, strict=True)
            assert all(g.candidates[b].bits <= g.candidates[a].bits for g, a, b in pairs)
            sizes.append(terrain.costs(repaired)["bits"])
    assert sum(sizes) / len(sizes) > 3.8  # the smallest plan has 3.26 bits


def test_a_limit_that_no_plan_meets_is_an_error_with_the_least_cost(task: Task) -> None:
    with pytest.raises(StudyError, match=r"no plan meets the limit bits <= 3: the least is 3\.2\d"):
        make_terrain(task, 3.0)


def test_a_limit_that_the_smallest_formats_break_and_others_meet(task: Task) -> None:
    """Such as the area of a circuit, in which a narrower format may need more logic."""

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        return {"area": float(sum(10 - int(text[-1]) for text in formats.values()))}

    graph = capture(task.model, task.example_inputs)
    space = build_space(sites(graph).values(), ["mxint3", "mxint4", "mxint6", "mxint8"])
    count = len(space.groups)
    terrain = Terrain(space, Objectives({"error": "min"}, {"area": 3.0 * count}), costs)
    rng = random.Random(0)
    for _ in range(20):
        genome = tuple(rng.randrange(4) for _ in space.groups)
        assert terrain.admits(terrain.repair(genome, rng))
    with pytest.raises(StudyError, match=f"area <= {count}: the least is {2 * count};"):
        Terrain(space, Objectives({"error": "min"}, {"area": 1.0 * count}), costs)


def test_tried_plans_are_known(terrain: Terrain) -> None:
    genome = terrain.space.cheapest
    assert not terrain.is_known(genome)
    terrain.remember(terrain.space.formats(genome))
    assert terrain.is_known(genome)


def test_a_lower_limit_on_a_cost(task: Task) -> None:
    graph = capture(task.model, task.example_inputs)
    model = CostModel(graph)
    space = build_space(sites(graph).values(), ["mxint3", "mxint4", "mxint6", "mxint8"])

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        return model(Plan(formats)).metrics()

    terrain = Terrain(space, Objectives({"error": "min"}, {"bits": ">= 6"}), costs)
    rng = random.Random(0)
    for _ in range(20):
        genome = tuple(rng.randrange(4) for _ in space.groups)
        assert terrain.costs(terrain.repair(genome, rng))["bits"] >= 6
