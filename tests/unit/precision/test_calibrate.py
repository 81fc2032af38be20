"""Observation, static scales, and fitted fraction bits."""

import pytest
import torch

import quire
from quire import Plan
from quire.errors import PlanError
from quire.formats import parse
from quire.precision import calibrate, fit_fixed, fit_integer, observe
from quire.precision.static_scale import static_scale


def test_observe_sees_what_passes_the_sites(mlp) -> None:
    seen = observe(mlp.graph, (mlp.x,), ["fc2.input", "fc1.weight", "output.0"])
    hidden = mlp.model.fc1(mlp.x).relu()
    extremes = torch.stack(hidden.aminmax())
    assert torch.equal(seen["fc2.input"], torch.cat([hidden.flatten(), extremes]))
    assert torch.equal(seen["fc1.weight"][:-2], mlp.model.fc1.weight.flatten())
    assert torch.equal(seen["output.0"][:-2], mlp.model(mlp.x).flatten())


def test_batches_may_be_tuples_dicts_and_tensors(mlp) -> None:
    halves = mlp.x[:2], mlp.x[2:4]
    whole = observe(mlp.graph, [halves[0], (halves[1],)], ["fc1.input"])["fc1.input"]
    named = observe(mlp.graph, [{"x": half} for half in halves], ["fc1.input"])["fc1.input"]
    assert torch.equal(whole, named)
    assert torch.equal(whole[:128], halves[0].flatten())
    with pytest.raises(PlanError, match="at least one batch"):
        observe(mlp.graph, [])


def test_a_large_tensor_is_sampled_with_its_extremes() -> None:
    graph = quire.capture(torch.nn.Linear(400, 400), (torch.randn(2, 400),))
    seen = observe(graph, (torch.zeros(1, 400),))
    weight = graph.weight.detach()
    sample = next(v for name, v in seen.items() if name.endswith("weight"))
    assert torch.equal(sample[:-2], weight.flatten()[::3])
    assert sample[-2:].tolist() == [weight.min(), weight.max()]


@torch.no_grad()
def test_calibrate_stores_static_scales_of_activations(mlp) -> None:
    plan = Plan.uniform(mlp.graph, "int8")
    plan["fc2.input"] = 'block(ufixed(8,0),"tensor",fp32,zero_point=True)'
    calibrated = calibrate(mlp.graph, [mlp.x[:3], mlp.x[3:]], plan)
    hidden = mlp.model.fc1(mlp.x).relu()
    assert calibrated["fc1.input"].scale == float(mlp.x.abs().max() / 127)
    assert calibrated["fc2.input"].scale == (float(hidden.max() / 255), 0.0)
    assert calibrated["fc1.weight"] == plan["fc1.weight"]
    assert plan["fc1.input"].scale is None
    q = quire.quantize(mlp.graph, Plan({"fc1.input": calibrated["fc1.input"]}))
    scale = calibrated["fc1.input"].scale
    rounded = (mlp.x * 3 / scale).round().clamp(-127, 127) * scale  # out of range: saturates
    torch.testing.assert_close(q(mlp.x * 3), mlp.model(rounded))


def test_calibrate_of_signed_data_finds_a_zero_point(mlp) -> None:
    format = 'block(ufixed(8,0),"tensor",fp32,zero_point=True)'
    calibrated = calibrate(mlp.graph, (mlp.x,), Plan({"fc1.input": format}))
    low, high = mlp.x.min(), mlp.x.max()
    scale = (high - low) / 255
    assert calibrated["fc1.input"].scale == (float(scale), float((-low / scale).round()))
    q = quire.quantize(mlp.graph, calibrated)
    assert torch.equal(q(mlp.x), quire.quantize(mlp.graph, Plan({"fc1.input": format}))(mlp.x))


def test_calibrate_leaves_dynamic_power_of_two_scales(mlp) -> None:
    plan = Plan.uniform(mlp.graph, "mxint8")
    assert calibrate(mlp.graph, (mlp.x,), plan) == plan


def brute_force(width: int, x: torch.Tensor) -> int:
    def error(f: int) -> float:
        y = parse(f"fixed({width},{f})").quantize(x)
        return float((y - x).double().square().sum())

    return min(range(-8, 24), key=error)


@pytest.mark.parametrize("width", [2, 3, 4, 6, 8, 12])
@pytest.mark.parametrize("scale", [1e-3, 0.7, 50.0])
def test_fitted_fraction_bits_have_the_least_error(width: int, scale: float) -> None:
    x = torch.randn(4000, generator=torch.Generator().manual_seed(width)) * scale
    assert fit_integer(f"fixed({width},{{}})", [x]) == brute_force(width, x)


def test_fit_fixed_by_site(lm) -> None:
    names = ["q.input", "k.input", "q.weight"]
    plan = fit_fixed(lm.graph, (lm.x,), {"q.input": 6, "k.input": 6, "q.weight": 4}, names)
    seen = observe(lm.graph, (lm.x,), names)
    f = brute_force(6, seen["q.input"])
    assert {name: str(entry) for name, entry in plan.items()} == {
        "q.input": f"fixed(6,{f})",
        "k.input": f"fixed(6,{f})",
        "q.weight": f"fixed(4,{brute_force(4, seen['q.weight'])})",
    }
    operands = [site.name for site in quire.sites(lm.graph).values() if site.is_operand]
    everywhere = fit_fixed(lm.graph, (lm.x,), 8)
    assert list(everywhere) == operands
    everywhere.check(lm.graph)


def test_fit_integer_of_other_templates() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 100
    bias = fit_integer("minifloat(e=2,m=1,bias={})", [x])
    formats = {b: parse(f"minifloat(e=2,m=1,bias={b})") for b in range(-9, 5)}
    errors = {b: format.quantize(x).sub(x).norm() for b, format in formats.items()}
    assert errors[bias] == min(errors.values())
    assert fit_integer("fixed(8,{})", [torch.zeros(3)]) == 0
    with pytest.raises(PlanError, match="nothing to fit"):
        fit_integer("bfp(8,bias={})", [x])


def test_a_fit_in_bfloat16_is_that_in_float32_and_says_what_does_not_fit() -> None:
    torch.manual_seed(0)
    model, x = torch.nn.Linear(32, 4).bfloat16(), torch.randn(4, 32).bfloat16()
    graph = quire.capture(model, (x,))
    same = quire.capture(torch.nn.Linear(32, 4).float(), (x.float(),))
    assert fit_fixed(graph, (x,), 6, ["linear.input"]) == fit_fixed(
        same, (x.float(),), 6, ["linear.input"]
    )
    with pytest.raises(
        PlanError, match=r"linear.input: no fixed\(12,f\) that covers .* fits torch.bfloat16"
    ):
        fit_fixed(graph, (x,), 12, ["linear.input"])


def test_nan_in_the_data_is_an_error_and_infinity_does_not_count() -> None:
    x = torch.tensor([0.5, -0.25, float("inf")])
    assert fit_integer("fixed(8,{})", [x]) == fit_integer("fixed(8,{})", [x[:2]])
    with pytest.raises(PlanError, match="hold NaN"):
        fit_integer("fixed(8,{})", [torch.tensor([1.0, float("nan")])])
    with pytest.raises(PlanError, match="hold NaN"):
        static_scale(parse("int8"), torch.tensor([1.0, float("nan")]))


class Nested(torch.nn.Module):
    """A model that takes a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.fc(batch["a"]) + batch["b"]


@torch.no_grad()
def test_a_dict_in_another_order_of_keys_is_the_same_batch() -> None:
    torch.manual_seed(0)
    model, a, b = Nested(), torch.randn(2, 4), torch.randn(2, 4) * 1000
    graph = quire.capture(model, ({"a": a, "b": b},))
    for data in (({"b": b, "a": a},), [{"batch": {"b": b, "a": a}}]):
        assert observe(graph, data, ["fc.input"])["fc.input"].abs().max() == a.abs().max()
    q = quire.quantize(graph, Plan({"fc.input": "mxint8"}))
    assert torch.equal(quire.exact(q)({"b": b, "a": a}), quire.exact(q)({"a": a, "b": b}))
    with pytest.raises(PlanError, match="a batch of data is not what the graph takes"):
        observe(graph, ({"a": a},))
    with pytest.raises(PlanError, match="a batch of data is not what the graph takes"):
        observe(graph, {"x": a})


def test_the_static_scale_of_zeros_alone_is_that_for_values_up_to_one() -> None:
    int8 = parse("block(fixed(8,0),size=16,scale=bf16)")
    assert static_scale(int8, torch.zeros(5)) == static_scale(int8, torch.ones(5)) > 0


def test_data_that_the_graph_does_not_take() -> None:
    x = torch.randn(4, 16)
    graph = quire.capture(torch.nn.Linear(16, 8), (x,))
    for data, said in (
        (None, "is a NoneType: give a batch"),
        ("batches", "is a str: give a batch"),
        ((x[:, :5],), r"gives input_1 fp32\[4, 5\]; the graph takes fp32\[batch, 16\]"),
        ([x, x[0]], r"gives input_1 fp32\[16\]; the graph takes"),
        (((x, x),), r"gives input_1 tuple; the graph takes"),
        (x.double(), r"gives input_1 fp64\[4, 16\]; the graph takes fp32"),
        (x[:0], r"gives input_1 \(0, 16\): no example"),
    ):
        with pytest.raises(PlanError, match=said):
            observe(graph, data)


def test_a_tensor_is_one_batch() -> None:
    x = torch.randn(4, 16)
    graph = quire.capture(torch.nn.Linear(16, 8), (x,))
    assert torch.equal(observe(graph, x)["linear.input"], observe(graph, [x])["linear.input"])
