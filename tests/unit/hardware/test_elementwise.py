"""Sums, differences and products of activations and numbers are exact, or refused with reasons."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quire
from quire.errors import HardwareError
from quire.hardware import Stalls, cells
from quire.hardware.stage import Builder
from quire.hardware.stream import Integers, Stream

Function = Callable[[Tensor, Tensor, Tensor], Tensor]

FUNCTIONS: dict[str, Function] = {
    "scaled": lambda x, a, b: a * 0.37,
    "shifted": lambda x, a, b: 4 * x,
    "negated": lambda x, a, b: -a,
    "halved": lambda x, a, b: a / -2,
    "none": lambda x, a, b: a * 0.0,
    "moved": lambda x, a, b: a + 1.5,
    "back": lambda x, a, b: F.relu(a) - 100.0,
    "reversed": lambda x, a, b: 1 - b,
    "difference": lambda x, a, b: a - b,
    "alpha": lambda x, a, b: torch.add(a, b, alpha=-0.3),
    "subtracted": lambda x, a, b: torch.sub(a, x, alpha=2),
    "affine": lambda x, a, b: F.relu(a * 0.7 - 0.01) * 3,
    "gate": lambda x, a, b: a * b,
    "swiglu": lambda x, a, b: F.silu(a) * b,
    "square": lambda x, a, b: a * a,
    "rectified": lambda x, a, b: F.relu(a) * x,
    "after": lambda x, a, b: F.silu(b) * 0.5 + x,
    "several": lambda x, a, b: (a * b - x * 0.25) * 1.7 + a,
}


class Elementwise(nn.Module):
    """Each of the functions of an input and two branches."""

    def __init__(self, functions: list[Function]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.functions = functions
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        a, b = self.a(x), self.b(x)
        return [function(x, a, b) for function in self.functions]


@pytest.mark.parametrize("format", ["fixed(8,4)", "mxint8"])
def test_sums_and_products_are_exact(tmp_path: Path, format: str):
    model = Elementwise(list(FUNCTIONS.values())).eval()
    x = torch.randn(64, 3)
    graph = quire.capture(model, (x,))
    plan = quire.Plan.uniform(graph, format).for_hardware(graph, (x,), quiet=True)
    design = quire.emit(quire.quantize(graph, plan), tmp_path / "out")
    run = design.simulate(torch.randn(64, 3) * 2, stalls=Stalls(0.3, 0.3))
    assert run.compared == 64 * 3 * len(FUNCTIONS)
    assert all(bool(output.any()) for name, output in named(run.outputs) if name != "none")


def named(outputs: tuple[Tensor, ...]) -> zip[tuple[str, Tensor]]:
    return zip(FUNCTIONS, outputs, strict=True)


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (
            lambda x, a, b: a / 3,
            "a division by 3 has no hardware, as one by a power of two has: multiply by 0.33",
        ),
        (
            lambda x, a, b: a / b,
            "a division by linear_1 has no hardware: one by a power of two has",
        ),
        (lambda x, a, b: a * float("inf"), "the constant inf has no hardware: a number is finite"),
        (lambda x, a, b: a + 1e39, "the constant 1e+39 has no hardware: a number is finite in fp3"),
        (
            lambda x, a, b: a + torch.ones(3),
            "or an activation and a number; one of these is a tens",
        ),
        (
            lambda x, a, b: a * torch.ones(3),
            "or an activation and a number; one of these is a tens",
        ),
        (lambda x, a, b: a + b.unsqueeze(1), "differ: hardware does not broadcast"),
        (lambda x, a, b: a * b, "an operand of a product has no format (fp32 is too wide to multi"),
    ],
)
def test_what_has_no_hardware_names_what_has(tmp_path: Path, function: Function, fault: str):
    model = Elementwise([function]).eval()
    graph = quire.capture(model, (torch.randn(2, 3),))
    plan = {**quire.Plan.uniform(graph, "fixed(8,4)"), "input.x": "fixed(8,4)"}
    with pytest.raises(HardwareError) as caught:
        quire.emit(quire.quantize(graph, quire.Plan(plan)), tmp_path / "out")
    assert fault in str(caught.value)


def test_for_hardware_types_operands_that_have_no_format_and_no_others():
    functions: list[Function] = [
        lambda x, a, b: a * b,  # both are sums
        lambda x, a, b: F.silu(a) * x,  # a table, and an input
        lambda x, a, b: F.relu(a) * F.dropout(x, training=False).reshape(-1, 3),
        lambda x, a, b: a * 2.0,
    ]
    x = (torch.randn(8, 3),)
    graph = quire.capture(Elementwise(functions).eval(), x)
    plan = quire.Plan.uniform(graph, "fixed(8,4)").for_hardware(graph, x, quiet=True)
    typed = {site: entry for site, entry in plan.items() if site.startswith("mul")}
    assert {site for site in typed if "constant" not in site} == {
        *("mul.input", "mul.other", "mul_2.input")
    }
    assert {str(entry)[:9] for site, entry in typed.items() if "mul_2" in site} == {"fixed(16,"}


@pytest.mark.parametrize("value", [Fraction(-3, 8), Fraction(5), Fraction(0), Fraction(-1)])
def test_a_sum_is_as_wide_as_what_it_adds(value: Fraction):
    """The cell takes no operand that is wider than its result, as one of cancelling terms is."""
    net = Builder("s", "add").read(Stream("x", (4,), 2, Integers(100, 103, -3)))
    total = cells.add(net, cells.constant(net, Fraction(-100, 8))).values
    assert isinstance(total, Integers)
    assert (total.bits, total.high, total.exponent) == (8, 3, -3)
    product = cells.scaled(net, value).values
    assert isinstance(product, Integers)
    ends = {Fraction(end) * Fraction(2) ** product.exponent for end in (product.low, product.high)}
    assert ends == {value * Fraction(100, 8), value * Fraction(103, 8)}
