"""The integer program: the best plan of all by enumeration, its limits, and what it says."""

import itertools
import math
import zlib
from collections.abc import Callable, Mapping
from random import Random

import pytest
import torch
from torch import Tensor, nn

from quire.errors import HardwareError, StudyError
from quire.explore import Task
from quire.explore.clock import Clock
from quire.explore.cost_tables import CostTables
from quire.explore.program import Program
from quire.explore.space import Genome, Space, build_space
from quire.explore.workbench import Workbench
from quire.formats import parse
from quire.precision import Maximum

FORMATS = ["mxint2", "mxint4", "fixed(5,3)", "mxfp6_e2m3", "mxint8"]


class Attention(nn.Module):
    """Scores of two linear layers: operands that meet, and one tensor that feeds two products."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.q(x) @ self.k(x).transpose(-1, -2)


class Tied(nn.Module):
    """One weight in two products."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.fc(x)))


def bench_of(model: nn.Module) -> Workbench:
    torch.manual_seed(0)
    x = torch.randn(4, 6, 8)
    return Workbench(Task(model.eval(), (x,), lambda model: {"error": 0.0}), 0, Clock())


def values_of(space: Space) -> list[list[float]]:
    random = Random(0)
    return [[random.random() for _ in group.candidates] for group in space.groups]


@pytest.fixture(params=[Attention, Tied])
def program(request: pytest.FixtureRequest) -> Program:
    bench = bench_of(request.param())
    space = build_space(bench.sites.values(), FORMATS[:4])
    return Program(CostTables(space, bench.costs), values_of(space))


def every_plan(program: Program) -> list[tuple[float, Genome, Mapping[str, float]]]:
    groups = program.tables.space.groups
    plans = itertools.product(*(range(len(group.candidates)) for group in groups))
    return sorted((program.total(plan), plan, program.tables.of(plan)) for plan in plans)  # type: ignore[type-var]


LIMITS: list[Callable[[Mapping[str, float]], dict[str, float]]] = [
    lambda middle: {"bits": middle["bits"]},
    lambda middle: {"weight_bits": middle["weight_bits"], "activation_bits": 5.0},
    lambda middle: {"bitops": middle["bitops"]},
    lambda middle: {"bitops": middle["bitops"], "bits": middle["bits"] * 0.9},
]


@pytest.mark.parametrize("limit", range(len(LIMITS)))
def test_the_plan_is_the_best_of_all(program: Program, limit: int) -> None:
    plans = every_plan(program)
    limits = LIMITS[limit](plans[len(plans) // 2][2])
    admitted = [
        (total, plan)
        for total, plan, costs in plans
        if all(costs[metric] <= bound for metric, bound in limits.items())
    ]
    assert 0 < len(admitted) < len(plans)
    assert program.solve(limits) == admitted[0][1]


def test_a_plan_never_breaks_a_limit_on_what_is_no_sum(program: Program) -> None:
    plans = every_plan(program)
    sizes = sorted(costs["memory"] for _, _, costs in plans)
    least = program.least("memory")
    assert least is not None
    for bound in (least, sizes[len(sizes) // 4], sizes[-1]):
        found = program.solve({"memory": bound})
        assert program.tables.of(found)["memory"] <= bound
    with pytest.raises(StudyError, match=r"no plan .* the limit memory <= .* least"):
        program.solve({"memory": sizes[0] - 1})


def test_a_limit_is_met_to_the_last_digit(program: Program) -> None:
    for total, _, costs in every_plan(program)[::97]:
        found = program.solve({"bits": costs["bits"]})
        assert program.tables.of(found)["bits"] <= costs["bits"]
        assert program.total(found) <= total


def test_tables_give_the_costs_of_every_plan() -> None:
    bench = bench_of(Attention())
    tables = CostTables(build_space(bench.sites.values(), FORMATS), bench.costs)
    assert {m: tables[m].exact for m in tables.least} == dict.fromkeys(tables.least, True) | {
        "memory": False
    }
    assert [len(tables[m].pairs) for m in ("bits", "bitops")] == [0, 3]
    random = Random(1)
    for _ in range(50):
        genome = tuple(random.randrange(5) for _ in tables.space.groups)
        for metric, cost in tables.of(genome).items():
            if tables[metric].exact:
                assert math.isclose(tables[metric].total(genome), cost, rel_tol=1e-9)


def test_a_cost_that_was_handed_in_is_a_limit_too() -> None:
    bench = bench_of(Attention())
    space = build_space(bench.sites.values(), FORMATS)

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        return {"wide": float(sum(text == "mxint8" for text in formats.values()))}

    program = Program(CostTables(space, costs), [[4.0, 3.0, 2.0, 1.0, 0.0]] * len(space.groups))
    plan = program.solve({"wide": 2.0})
    assert sorted(plan) == [3] * (len(plan) - 2) + [4, 4]


def stages(formats: Mapping[str, str]) -> dict[str, float]:
    """A pipeline with a stage for each two sites, which takes the product of their widths."""
    widths = [parse(text).bits for text in formats.values()]
    cycles = {str(i): float(a * b) for i, (a, b) in enumerate(itertools.pairwise(widths))}
    return {"cycles": Maximum(cycles), "bits": float(sum(widths))}


@pytest.mark.parametrize("quantile", [0.05, 0.3, 0.8])
def test_a_limit_on_the_slowest_stage_is_exact(quantile: float) -> None:
    bench = bench_of(Attention())
    space = build_space(bench.sites.values(), FORMATS[:4])
    program = Program(CostTables(space, stages), values_of(space))
    plans = every_plan(program)
    slowest = sorted(costs["cycles"] for _, _, costs in plans)
    bound = slowest[int(quantile * len(slowest))]
    assert all(table.exact for table in program.tables.parts("cycles"))
    assert not program.tables["cycles"].exact
    best = next(plan for _, plan, costs in plans if costs["cycles"] <= bound)
    assert program.solve({"cycles": bound}) == best
    with_bits = {"cycles": bound, "bits": plans[0][2]["bits"]}
    best = next(p for _, p, costs in plans if all(costs[m] <= b for m, b in with_bits.items()))
    assert program.solve(with_bits) == best


def test_the_least_of_a_maximum_is_found_within_other_limits() -> None:
    bench = bench_of(Attention())
    space = build_space(bench.sites.values(), FORMATS[:4])

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        found = stages(formats)
        return {"cycles": found["cycles"], "narrow": -found["bits"]}

    program = Program(CostTables(space, costs), values_of(space))
    plans = every_plan(program)
    narrow = sorted(costs["narrow"] for _, _, costs in plans)[len(plans) // 3]
    least = min(costs["cycles"] for _, _, costs in plans if costs["narrow"] <= narrow)
    assert program.least("cycles", {"narrow": narrow}) == least
    assert program.least("cycles") == min(costs["cycles"] for _, _, costs in plans)
    with pytest.raises(StudyError, match=f"cycles is at least {least:g}"):
        program.solve({"narrow": narrow, "cycles": least - 1})


def test_a_cost_of_pairs_of_formats_is_exact() -> None:
    """As the area of a circuit, which two formats of one width do not share."""
    bench = bench_of(Attention())
    space = build_space(bench.sites.values(), FORMATS)

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        pairs = itertools.pairwise(formats.values())
        return {"area": float(sum(zlib.crc32(f"{a} {b}".encode()) % 97 for a, b in pairs))}

    tables = CostTables(space, costs)
    assert tables["area"].exact
    random = Random(2)
    for _ in range(50):
        genome = tuple(random.randrange(len(group.candidates)) for group in space.groups)
        assert math.isclose(tables["area"].total(genome), tables.of(genome)["area"], abs_tol=1e-9)


def test_plans_that_the_cost_function_refuses_are_never_taken() -> None:
    bench = bench_of(Attention())
    space = build_space(bench.sites.values(), FORMATS)

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        texts = list(formats.values())
        if "mxint8" in texts or ("fixed(5,3)", "mxint4") in itertools.pairwise(texts):
            raise HardwareError("no cell for that")
        return {"area": float(sum(parse(text).bits for text in texts))}

    program = Program(CostTables(space, costs), values_of(space))
    plans = every_plan(program)
    for bound in (20.0, 25.0, 30.0):
        best = next(plan for _, plan, costs in plans if costs["area"] <= bound)
        assert program.solve({"area": bound}) == best


@pytest.mark.parametrize("seed", range(3))
def test_plans_refused_for_what_stands_beside_them_are_optimal_still(seed: int) -> None:
    """A choice may be refused beside the smallest formats and taken beside others."""
    bench = bench_of(Attention())
    space = build_space(bench.sites.values(), FORMATS[:4])

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        texts = list(formats.values())
        marks = [zlib.crc32(f"{seed} {a} {b}".encode()) % 6 for a, b in itertools.pairwise(texts)]
        if 0 in marks:
            raise HardwareError("no cell for that")
        return {"area": float(sum(parse(text).bits for text in texts))}

    program = Program(CostTables(space, costs), values_of(space))
    plans = every_plan(program)
    areas = sorted(costs["area"] for _, _, costs in plans if math.isfinite(costs["area"]))
    assert 0 < len(areas) < len(plans)
    for share in (0.0, 0.2, 0.6):
        bound = areas[int(share * len(areas))]
        best = next(total for total, _, costs in plans if costs["area"] <= bound)
        assert program.total(program.solve({"area": bound})) == pytest.approx(best, rel=1e-6)
    best = next(total for total, _, costs in plans if math.isfinite(costs["area"]))
    assert program.total(program.solve({})) == pytest.approx(best, rel=1e-6)


def test_a_budget_that_only_counts_is_cut_off_plan_by_plan() -> None:
    bench = bench_of(Attention())
    space = build_space(bench.sites.values(), ["mxint4", "mxint8"])

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        wide = sum(text == "mxint8" for text in formats.values())
        if wide > 3:
            raise HardwareError("too many")
        return {"wide": float(wide)}

    program = Program(
        CostTables(space, costs), [[1.0, 0.5 - g / 100] for g in range(len(space.groups))]
    )
    plan = program.solve({})
    assert sum(plan) == 3
    assert program.total(plan) == min(
        program.total(p) for _, p, costs in every_plan(program) if math.isfinite(costs["wide"])
    )


def test_the_smallest_formats_may_be_refused() -> None:
    bench = bench_of(Tied())
    space = build_space(bench.sites.values(), FORMATS[:4])

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        if "mxint2" in formats.values():
            raise HardwareError("no cell for two bits")
        return {"area": float(sum(parse(text).bits for text in formats.values()))}

    program = Program(CostTables(space, costs), values_of(space))
    least = program.least("area")
    assert least == min(costs["area"] for _, _, costs in every_plan(program))
    assert 0 not in program.solve({"area": least})


def test_a_front_gets_better_with_its_bound(program: Program) -> None:
    least = program.least("bits")
    assert least is not None
    front = program.front("bits", [least + i / 10 for i in range(-3, 20)])
    sizes = [program.tables.of(plan)["bits"] for plan in front]
    totals = [program.total(plan) for plan in front]
    assert sizes == sorted(sizes)
    assert totals == sorted(totals, reverse=True)
    assert sizes[0] == least
    assert len(set(front)) == len(front) > 2


def test_an_infinite_sensitivity_is_never_taken() -> None:
    bench = bench_of(Tied())
    space = build_space(bench.sites.values(), FORMATS)
    values = [[math.inf, 2.0, 1.0, math.inf, math.inf] for _ in space.groups]
    program = Program(CostTables(space, bench.costs), values)
    assert set(program.solve({})) == {2}
    assert program.least("bits") == program.tables.of((1,) * len(space.groups))["bits"]
    with pytest.raises(StudyError, match=r"site fc\.input: none of its formats has a finite"):
        Program(CostTables(space, bench.costs), [[math.inf] * 5] * len(space.groups))


def test_a_limit_that_no_plan_meets_is_named_with_the_nearest_value() -> None:
    bench = bench_of(Attention())
    space = build_space(bench.sites.values(), FORMATS)
    program = Program(CostTables(space, bench.costs), values_of(space))
    with pytest.raises(StudyError, match=r"the limit bits <= 2: the least is 3\.3; raise"):
        program.solve({"weight_bits": 9.0, "bits": 2.0})
    with pytest.raises(StudyError, match=r"'size' is no cost: limit one of bits, weight_bits"):
        program.solve({"size": 1.0})


def test_limits_that_exclude_each_other_are_named_together() -> None:
    bench = bench_of(Tied())
    space = build_space(bench.sites.values(), FORMATS)

    def costs(formats: Mapping[str, str]) -> dict[str, float]:
        wide = float(sum(text == "mxint8" for text in formats.values()))
        return {"wide": wide, "narrow": len(formats) - wide}

    program = Program(CostTables(space, costs), values_of(space))
    with pytest.raises(StudyError) as caught:
        program.solve({"wide": 1.0, "narrow": 1.0})
    assert str(caught.value) == (
        "no plan meets the limits wide <= 1 and narrow <= 1 together, though each alone; with the "
        "others as they are, wide is at least 3, narrow is at least 3"
    )
