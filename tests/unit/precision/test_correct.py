"""Corrections: what each one promises of a layer, and what `correct` promises of a graph."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import quire
from quire import Plan
from quire.errors import PlanError
from quire.formats import parse
from quire.ops.convolution import patches
from quire.precision import Entry, calibrate, correct, observe
from quire.precision.copying import copy_graph
from quire.precision.correct import Corrector
from quire.precision.corrections.clip import clip_weight
from quire.precision.corrections.gptq import inverse_factor
from quire.precision.corrections.layer import Layer
from quire.precision.static_scale import has_real_scale
from quire.precision.switchable import Switchable

NARROW = [
    "mxint4",
    "bfp(3,scale_bits=8,size=16)",
    "fixed(4,5)",
    "minifloat(e=2,m=1,bias=4)",
    "log(4)",
    "mxfp4",
    "int4",
    "block(fixed(4,0),size=20,scale=bf16)",
    "uint4_g128",
    "nf4",
    "nvfp4",
    "bl(4,scale_bits=8,size=16)",
    'block(fixed(4,0),size="tensor",scale=fp32)',
    "block(ternary,size=16,scale=bf16)",
]


class Net(nn.Module):
    """A linear layer whose inputs are correlated and have a mean, and one behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(72, 24), nn.Linear(24, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x)))


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(200, 72) @ torch.randn(72, 72) / 8 + 0.4


@pytest.fixture(scope="module")
def graph(net: Net, x: Tensor) -> Any:
    return quire.capture(net, (x[:2],))


def product_error(net: Net, graph: Any, x: Tensor, entry: str) -> Tensor:
    """The error of fc1's product under an entry of its weight, (samples, rows), float64."""
    corrected, plan = correct(graph, Plan({"fc1.weight": entry}), x)
    weight = quire.cast(corrected.fc1.weight, plan["fc1.weight"].text, 1)
    with torch.no_grad():
        product = functional.linear(x.double(), weight.double(), corrected.fc1.bias.double())
        exact = functional.linear(x.double(), net.fc1.weight.double(), net.fc1.bias.double())
    return product - exact


@pytest.mark.parametrize("format", NARROW)
def test_gptq_makes_the_error_of_the_product_smaller(net, graph, x, format: str) -> None:
    plain = product_error(net, graph, x, format).square().sum()
    assert product_error(net, graph, x, f"{format}+gptq").square().sum() < 0.95 * plain


@pytest.mark.parametrize("format", NARROW)
def test_a_bias_takes_over_the_mean_error(net, graph, x, format: str) -> None:
    assert product_error(net, graph, x, format).mean(0).abs().max() > 1e-3
    for corrections in ("bias", "gptq+bias"):
        mean = product_error(net, graph, x, f"{format}+{corrections}").mean(0)
        assert mean.abs().max() < 1e-6


def naive_gptq(weight: Tensor, moment: Tensor, format: Any, size: int) -> Tensor:
    """The algorithm of Frantar et al. (2023) as its section 3 states it: after each column the
    inverse of the rest of H is found anew. weight (rows, length), moment damped, both float64."""
    weight, result = weight.clone(), torch.zeros_like(weight)
    scale = None
    for j in range(weight.shape[1]):
        if size > 1 and j % size == 0:
            codes = format.encode(weight[:, j : j + size].float(), 1)
            scale = format.scale.values_of(codes.scales.long())
        column = weight[:, j : j + 1].float()
        result[:, j] = format.quantize(column, 1, scale=scale)[:, 0].double()
        inverse = torch.linalg.inv(moment[j:, j:])
        error = (weight[:, j] - result[:, j]) / inverse[0, 0]
        weight[:, j:] -= error[:, None] * inverse[0]
    return result


@pytest.mark.parametrize(
    ("format", "size"), [("fixed(4,5)", 1), ("mxint4", 32), ("bfp(3,scale_bits=8,size=16)", 16)]
)
def test_gptq_is_the_published_algorithm(net, graph, x, format: str, size: int) -> None:
    moment = x.double().T @ x.double() / len(x)
    damped = moment + 0.01 * moment.diagonal().mean() * torch.eye(72).double()
    expected = naive_gptq(net.fc1.weight.detach().double(), damped, parse(format), size)
    corrected, _ = correct(graph, Plan({"fc1.weight": f"{format}+gptq"}), x)
    found = quire.cast(corrected.fc1.weight, format, 1).detach()
    same = found.double() == expected
    kept = (found == quire.cast(net.fc1.weight, format, 1)).all(1)  # no better than direct rounding
    assert (same.all(1) | kept).all()
    assert same.all(1).sum() >= 20


def test_the_factor_is_that_of_the_inverse() -> None:
    torch.manual_seed(0)
    a = torch.randn(2, 9, 9).double()
    moment = a @ a.transpose(1, 2)
    moment[1] = 0  # inputs that are always zero
    factor = inverse_factor(moment, 0.1)
    mean = float(moment[0].diagonal().mean())
    damped = moment[0] + 0.1 * mean * torch.eye(9).double()
    assert torch.allclose(factor[0].T @ factor[0], torch.linalg.inv(damped))
    assert torch.equal(factor[0], factor[0].triu())
    assert torch.equal(factor[1], torch.eye(9).double())


def test_gptq_with_independent_inputs_is_rounding() -> None:
    """Where no input says anything of another one, there is nothing to make up for."""
    torch.manual_seed(0)
    weight = torch.randn(1, 5, 40)
    layer = Layer(parse("mxint4"), None, weight, torch.eye(40).double()[None])
    correction = quire.precision.corrections.CORRECTIONS["gptq"]
    assert correction.weight is not None
    found = correction.weight(layer, weight, {"damp": 0.01})
    assert torch.equal(layer.cast(found), layer.cast(weight))


def diagonal_error(layer: Layer, weight: Tensor) -> Tensor:
    """The criterion of `clip`, row by row."""
    error = (layer.cast(weight).double() - layer.weight.double()).square()
    return (error * layer.moment.diagonal(dim1=-2, dim2=-1)[:, None]).sum(-1)


@pytest.mark.parametrize("format", [f for f in NARROW if parse(f).is_block])
def test_clip_is_never_worse_on_its_own_criterion(format: str) -> None:
    torch.manual_seed(0)
    weight = torch.randn(2, 20, 70) ** 3  # long tails
    moment = torch.diag_embed(torch.rand(2, 70).double() + 0.1)
    layer = Layer(parse(format), None, weight, moment)
    clipped = clip_weight(layer, weight, {"lowest": 0.3, "steps": 20})
    before, after = diagonal_error(layer, weight), diagonal_error(layer, clipped)
    if not layer.is_coupled:
        assert (after <= before).all()
    # A power of two moves by whole binades, which few blocks gain from.
    if has_real_scale(layer.format) and not parse(format).tensor_scale:
        assert after.sum() < before.sum()
    else:
        assert after.sum() <= before.sum()


def test_clip_takes_the_best_share_of_each_block() -> None:
    torch.manual_seed(0)
    weight = torch.randn(1, 30, 32) ** 3
    moment = torch.diag_embed(torch.rand(1, 32).double() + 0.1)
    layer = Layer(parse("block(fixed(3,0),size=16,scale=fp32)"), None, weight, moment)
    found = clip_weight(layer, weight, {"lowest": 0.5, "steps": 5})
    importance = moment.diagonal(dim1=-2, dim2=-1)
    for row in range(30):
        blocks = weight[0, row].split(16), found[0, row].split(16), importance[0].split(16)
        for block, clipped, weights in zip(*blocks, strict=True):
            tried = [
                block.clamp(-s * block.abs().max(), s * block.abs().max())
                for s in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
            ]
            errors = [
                float(((layer.format.quantize(t) - block).double().square() * weights).sum())
                for t in tried
            ]
            error = (layer.format.quantize(clipped) - block).double().square() * weights
            assert float(error.sum()) == pytest.approx(min(errors), rel=1e-6)


@pytest.mark.parametrize("format", ["int4", "uint4_g128", "nvfp4", "nf4"])
def test_clip_finds_the_static_scale_of_an_activation(graph, x, format: str) -> None:
    site = "fc1.input"
    _, clipped = correct(graph, Plan({site: f"{format}+clip"}), x)
    covering = calibrate(graph, x, Plan({site: format}))
    values = observe(graph, x, [site])[site]

    def error(entry: Entry) -> float:
        rounded = entry.format.quantize(values, scale=entry.scale)
        return float((rounded - values).square().sum())

    assert clipped[site].corrections == {}
    assert error(clipped[site]) < error(covering[site])


class Convolutions(nn.Module):
    """Groups, a stride and padding; the second layer has no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.second = nn.Conv2d(6, 4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def test_convolutions_are_corrected_over_their_windows() -> None:
    torch.manual_seed(0)
    model = Convolutions().eval()
    x = torch.randn(32, 4, 9, 9)
    x = x + x.roll(1, -1) + 0.5
    graph = quire.capture(model, (x[:2],))
    windows = patches(x, (3, 3), (2, 2), (1, 1), (1, 1), 2).flatten(4)  # (batch, groups, 5, 5, 18)
    windows = windows.movedim(1, 0).flatten(1, 3).double()

    def errors(entry: str) -> Tensor:
        corrected, plan = correct(graph, Plan({"first.weight": entry}), x)
        weight = quire.cast(corrected.first.weight, plan["first.weight"].text, (1, 2, 3))
        changed = (weight - model.first.weight).flatten(1).unflatten(0, (2, 3)).double()
        bias = (corrected.first.bias - model.first.bias).unflatten(0, (2, 3)).double()
        return (windows @ changed.transpose(1, 2) + bias[:, None]).detach()

    for format in ("mxint4", "int4", "fixed(4,4)"):
        plain, gptq = errors(format), errors(f"{format}+gptq")
        assert gptq.square().sum() < 0.9 * plain.square().sum()
        assert errors(f"{format}+gptq+bias").mean(1).abs().max() < 1e-6 < gptq.mean(1).abs().max()
    with pytest.raises(PlanError, match=r"second.weight, .* has no correction 'bias', which takes"):
        correct(graph, Plan({"second.weight": "mxint4+bias"}), x)


class Twice(nn.Module):
    """One layer at two places, and one weight as a matrix (in, out)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)
        self.head = nn.Parameter(torch.randn(16, 3) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.fc(x))) @ self.head


def test_uses_of_one_weight_add_up() -> None:
    torch.manual_seed(0)
    model = Twice().eval()
    x = torch.randn(100, 16) + 0.3
    graph = quire.capture(model, (x[:2],))
    corrected, _ = correct(graph, Plan({"fc.weight": "int4+gptq+bias"}), x)
    with torch.no_grad():
        seen = torch.cat([x, model.fc(x).relu()])
    alone = quire.capture(model.fc, (x[:2],))
    expected, _ = correct(alone, Plan({"linear.weight": "int4+gptq+bias"}), seen)
    assert torch.equal(corrected.fc.weight, expected.weight)
    assert torch.allclose(corrected.fc.bias, expected.bias, atol=1e-7)

    transposed, plan = correct(graph, Plan({"matmul.weight": "int4+gptq"}), x)
    with torch.no_grad():
        inputs = model.fc(model.fc(x).relu())
        plain = inputs @ (quire.cast(graph.head, "int4", 0) - model.head)
        gptq = inputs @ (quire.cast(transposed.head, "int4", 0) - model.head)
    assert plan == Plan({"matmul.weight": "int4"})
    assert gptq.square().sum() < 0.9 * plain.square().sum()


class Addmm(nn.Linear):
    """The layer of GPT-2: the weight is (in, out)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class Left(nn.Linear):
    """The weight on the left of columns."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.weight @ x.unsqueeze(-1)).squeeze(-1)


@pytest.mark.parametrize(("kind", "site"), [(Addmm, "addmm.weight"), (Left, "matmul.weight")])
def test_a_product_in_another_form_is_corrected_alike(net, graph, x, kind: Any, site: str) -> None:
    same, _ = correct(graph, Plan({"fc1.weight": "int4+clip+gptq"}), x)
    model = kind(72, 24).eval()
    weight, expected = net.fc1.weight.detach(), same.fc1.weight
    if kind is Addmm:
        weight, expected = weight.t().clone(), expected.t()
    model.weight = nn.Parameter(weight)
    other = quire.capture(model, (x[:2],))
    found, plan = correct(other, Plan({site: "int4+clip+gptq"}), x)
    assert plan == Plan({site: "int4"})
    assert torch.allclose(found.weight, expected, atol=1e-7)
    assert not torch.allclose(found.weight, weight, atol=1e-3)


def test_what_shares_a_tensor_with_other_ops_is_refused(lm) -> None:
    with pytest.raises(PlanError, match=r"embed.weight, weight of embedding, has no correction 'g"):
        correct(lm.graph, Plan({"head.weight": "mxint4+gptq"}), lm.x)

    class Across(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.bias = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8))

        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x @ self.w, self.w, self.bias) + self.bias

    x = torch.randn(9, 8)
    graph = quire.capture(Across(), (x,))
    with pytest.raises(PlanError, match="are one tensor that is multiplied along several axes"):
        correct(graph, Plan({"linear.weight": Entry.of("fixed(4,2)+gptq")}), x)

    class SharedBias(Across):
        def forward(self, x: Tensor) -> Tensor:
            return functional.linear(x, self.w, self.bias) + self.bias

    graph = quire.capture(SharedBias(), (x,))
    with pytest.raises(PlanError, match=r"its bias bias is read by add.* too, so that it cannot"):
        correct(graph, Plan({"linear.weight": "mxint4+bias"}), x)


def test_the_original_is_untouched_and_the_rest_shared(net, graph, x) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    corrected, _ = correct(graph, Plan({"fc1.weight": "mxint4+gptq+bias"}), x)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    changed = {n for n, p in corrected.named_parameters() if p is not graph.get_parameter(n)}
    assert changed == {"fc1.weight", "fc1.bias"}
    assert all(p.requires_grad for p in corrected.parameters())
    assert torch.equal(graph(x), net(x))


def test_corrections_do_not_depend_on_other_sites(graph, x) -> None:
    entries = {
        "fc1.weight": "mxint3+gptq+bias",
        "fc2.weight": "int4+clip",
        "fc2.input": "int4+clip",
    }
    together, plan = correct(graph, Plan(entries), x)
    for site, entry in entries.items():
        alone, left = correct(graph, Plan({site: entry}), x)
        assert left[site] == plan[site]
        if site.endswith("weight"):
            assert torch.equal(together.get_parameter(site), alone.get_parameter(site))


def test_a_plan_with_corrections_is_not_quantized_before_they_are_made(net, graph, x) -> None:
    plan = Plan({"fc1.weight": "mxint4+bias+gptq", "fc2.input": "int8"})
    with pytest.raises(PlanError, match=r"fc1.weight is mxint4\+gptq\+bias, and corrections need"):
        quire.quantize(graph, plan)
    with pytest.raises(PlanError, match=r"quire.correct\(graph, plan, calibration\)"):
        quire.compile(net, plan)(x)
    with pytest.raises(
        PlanError, match=r"fc1.weight has corrections \(gptq, bias\), which quire.c"
    ):
        quire.apply(net, plan, quiet=True)
    corrected, left = correct(graph, plan, x)
    assert left == Plan({"fc1.weight": "mxint4", "fc2.input": "int8"})
    with pytest.raises(PlanError, match="has the casts of a plan already: give correct the graph"):
        correct(quire.quantize(corrected, left), plan, x)


def test_everything_behind_is_as_without_corrections(net, graph, x, tmp_path: Path) -> None:
    plan = Plan(
        {"fc1.weight": "mxint4+gptq+bias", "fc2.weight": "int4+clip", "fc2.input": "mxint8"}
    )
    q = quire.quantize(*correct(graph, plan, x))
    assert torch.allclose(quire.exact(q)(x), q(x), atol=1e-5)
    quire.save(q, tmp_path / "q.safetensors")
    loaded = quire.load(Net().eval(), tmp_path / "q.safetensors")
    assert torch.equal(loaded(x), q(x))
    assert (tmp_path / "q.safetensors").stat().st_size == quire.cost(graph, plan).memory
    corrected, left = correct(graph, plan, x)
    assert torch.allclose(quire.compile(corrected, left)(x), q(x), atol=1e-5)
    assert quire.cost(graph, plan) == quire.cost(graph, left)

    live = Net().eval()
    live.load_state_dict(corrected.state_dict())
    quire.apply(live, left, quiet=True)
    assert torch.allclose(live(x), q(x), atol=1e-5)

    hardware = Plan({"fc1.weight": "fixed(4,5)+gptq", "fc1.input": "fixed(8,4)"})
    fitted = hardware.for_hardware(graph, x, quiet=True)
    assert str(fitted["fc1.weight"]) == "fixed(4,5)+gptq"
    assert str(correct(graph, fitted, x)[1]["fc1.weight"]) == "fixed(4,5)"


def test_a_switchable_graph_takes_corrections(graph, x) -> None:
    switchable, corrector = Switchable(graph), Corrector(graph, x)
    plans = [
        Plan({"fc1.weight": "mxint4+gptq+bias", "fc2.weight": "mxint4"}),
        Plan({"fc1.weight": "mxint4"}),
        Plan({"fc1.weight": "mxint4+gptq", "fc2.input": "int4+clip"}),
        Plan({"fc2.weight": "int4+bias"}),
    ]
    with torch.no_grad():
        for plan in plans * 2:
            module = switchable.use(*corrector.resolve(plan))
            assert torch.equal(module(x), quire.quantize(*correct(graph, plan, x))(x)), plan
        assert torch.equal(switchable.use(Plan())(x), graph(x))


def test_text_and_json() -> None:
    plan = Plan({"a": "mxint4 + bias+gptq", "b": Entry(parse("int4"), 1, corrections={"clip": {}})})
    plan["c"] = Entry(parse("mxint4"), corrections={"gptq": {"damp": 0.1}})
    data = plan.to_json()
    assert data["entries"] == {
        "a": "mxint4+gptq+bias",
        "b": {"format": "int4", "axis": 1, "corrections": {"clip": {}}},
        "c": {"format": "mxint4", "corrections": {"gptq": {"damp": 0.1}}},
    }
    assert Plan.from_json(json.loads(json.dumps(data))) == plan
    assert plan.has_corrections
    assert not plan.without_corrections().has_corrections
    assert str(plan["a"]) == "mxint4+gptq+bias"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("mxint4+gptx", r"'mxint4\+gptx': no correction is named 'gptx'; there are clip, gptq, bi"),
        ("mxint44+gptq", "did you mean mxint4"),
        (Entry(parse("mxint4"), corrections={"gptq": {"dump": 1}}), "no option 'dump' of 'gptq'"),
        (Entry(parse("mxint4"), corrections={"gptq": {"damp": 2}}), "gptq.damp=2, which is no num"),
        (Entry(parse("int4"), corrections={"clip": {"steps": 2.5}}), "2.5, which is no integer fr"),
        (Entry(parse("int4"), corrections={"clip": {"lowest": float("nan")}}), "is no number from"),
        (
            "fixed(4,5)+clip",
            r"has no correction 'clip', .*; legal here: 'gptq' with 'damp', 'bias'",
        ),
        (Entry(parse("mxint4"), 0, corrections={"gptq": {}}), "no correction 'gptq', .*: none$"),
    ],
)
def test_what_is_not_legal(graph, x, entry: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        correct(graph, Plan({"fc1.weight": entry}), x)


def test_wildcards_leave_out_what_cannot_be_corrected(graph, cnn, x) -> None:
    plan = Plan.from_patterns(graph, {"*": "mxint4", "fc*": "mxint4+gptq"})
    assert {name: str(entry) for name, entry in plan.items() if name.startswith("fc")} == {
        "fc1.input": "mxint4",
        "fc1.weight": "mxint4+gptq",
        "fc1.bias": "mxint4",
        "fc2.input": "mxint4",
        "fc2.weight": "mxint4+gptq",
        "fc2.bias": "mxint4",
    }
    assert list(Plan.uniform(graph, "int4+gptq")) == ["fc1.weight", "fc2.weight"]
    assert "fc1.input" in Plan.uniform(graph, "int4+clip")
    # conv1 has a folded batch norm, whose weight is no parameter, and conv2 no bias.
    assert list(Plan.uniform(cnn.graph, "int4+gptq")) == ["conv2.weight", "fc.weight"]
    assert list(Plan.uniform(cnn.graph, "int4+bias")) == ["fc.weight"]


def test_data_that_says_nothing(graph, x) -> None:
    plan = Plan({"fc1.weight": "mxint4+gptq"})
    with pytest.raises(PlanError, match="at least one batch of calibration data"):
        correct(graph, plan, [])
    with pytest.raises(PlanError, match=r"fc1.weight: on the calibration data its inputs hold NaN"):
        correct(graph, plan, torch.full((2, 72), torch.nan))
    zero, _ = correct(graph, plan, torch.zeros(2, 72))
    assert torch.equal(zero.fc1.weight, graph.fc1.weight)
    broken = copy_graph(graph, share=False)
    with torch.no_grad():
        broken.fc1.weight[0, 0] = torch.inf
    with pytest.raises(PlanError, match=r"fc1.weight: the weight holds NaN or infinity"):
        correct(broken, plan, x)


def test_several_batches_are_one(graph, x) -> None:
    plan = Plan({"fc1.weight": "mxint4+gptq+bias"})
    whole, _ = correct(graph, plan, x)
    parts, _ = correct(graph, plan, [(x[:50],), (x[50:],)])
    assert torch.equal(whole.fc1.weight, parts.fc1.weight)
    assert torch.allclose(whole.fc1.bias, parts.fc1.bias, atol=1e-7)


class Reads(nn.Module):
    """A weight that a product reads, and something else without a cast."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.w, self.b) + x * self.w[0]


def test_a_weight_that_something_else_reads_is_refused() -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 8)
    graph = quire.capture(Reads(), (x,))
    with pytest.raises(PlanError, match=r"linear.weight: the weight is read by select.* too"):
        correct(graph, Plan({"linear.weight": "mxint4+gptq"}), x)
    corrected, _ = correct(graph, Plan({"linear.weight": "mxint4+bias"}), x)
    assert corrected.w is graph.w  # a bias leaves the weight as it is
    assert not torch.equal(corrected.b, graph.b)


def test_calibration_may_be_an_iterator(graph, x) -> None:
    plan = Plan({"fc1.weight": "mxint4+gptq", "fc2.input": "int8+clip"})
    first, left = correct(graph, plan, iter([x[:16], x[16:]]))
    second, expected = correct(graph, plan, [x[:16], x[16:]])
    assert left == expected
    assert torch.equal(first.fc1.weight, second.fc1.weight)


class OneBias(nn.Module):
    """A bias that sums share."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.w, self.bias = nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.w)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_bias_that_sums_share_is_not_corrected(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 8)
    graph = quire.capture(OneBias(shape), (x,))
    assert quire.sites(graph)["addmm.weight"].bias is None  # so that a search leaves it out
    with pytest.raises(PlanError, match=r"addmm.weight, .* has no correction 'bias'"):
        correct(graph, Plan({"addmm.weight": "mxint4+bias"}), x)


@pytest.mark.parametrize("shape", [(4,), (1, 4)])
def test_a_bias_of_each_column_is_corrected(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 8) + 1
    graph = quire.capture(OneBias(shape), (x,))
    q = quire.quantize(*correct(graph, Plan({"addmm.weight": "mxint4+bias"}), x))
    assert (q(x) - graph(x)).mean(0).abs().max() < 1e-5
