"""The exact executor, against fractions, the fast executor's bound and IEEE arithmetic."""

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from mpmath import mp, mpf
from torch import Tensor, nn

from quire.formats import parse
from quire.graph import capture, sites
from quire.ops.exact_arithmetic import scale
from quire.ops.exact_value import from_float
from quire.ops.integer_functions import layer_norm, softmax
from quire.precision import Plan, quantize
from quire.precision.exact import exact, exact_cast


class Call(nn.Module):
    """A module that is one function."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> object:
        return self.function(*[x for x in (a, b, c) if x is not None])


def run(
    module: nn.Module, entries: dict[str, str], *inputs: Tensor
) -> tuple[Tensor, torch.fx.GraphModule]:
    """The exact results under a plan, and the quantized graph."""
    graph = capture(module, inputs)
    quantized = quantize(graph, Plan(entries))
    return exact(quantized)(*inputs), quantized


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fixed(value: Fraction, w: int, f: int) -> Fraction:
    """fixed(w,f) of a fraction: Python rounds to nearest, ties to even."""
    code = max(-(1 << (w - 1)), min((1 << (w - 1)) - 1, round(value * 2**f)))
    return Fraction(code, 2**f)


def fractions(x: Tensor) -> list[Fraction]:
    return [Fraction(v) for v in x.double().flatten().tolist()]


def test_two_layers_with_casts_in_fractions() -> None:
    torch.manual_seed(1)
    first, second = nn.Linear(6, 5), nn.Linear(5, 3)
    x = randn(4, 6) * 3
    formats = {
        "0.input": "fixed(8,4)",
        "0.weight": "fixed(8,6)",
        "2.input": "fixed(6,3)",
        "2.weight": "fixed(5,3)",
    }
    got, _ = run(nn.Sequential(first, nn.ReLU(), second), formats, x)

    def layer(row: list[Fraction], linear: nn.Linear, w: int, f: int) -> list[Fraction]:
        return [
            sum((a * fixed(b, w, f) for a, b in zip(row, fractions(weights), strict=True)), bias)
            for weights, bias in zip(linear.weight, fractions(linear.bias), strict=True)
        ]

    expected = []
    for row in x:
        hidden = layer([fixed(v, 8, 4) for v in fractions(row)], first, 8, 6)
        hidden = [fixed(max(v, Fraction()), 6, 3) for v in hidden]
        expected.append([float(v) for v in layer(hidden, second, 5, 3)])
    assert got.equal(torch.tensor(expected, dtype=torch.float64).float())


def test_an_operand_without_an_entry_is_rounded_once_to_fp32() -> None:
    a, b, c = randn(3, 40), randn(40, 2, seed=1), randn(2, 2, seed=2)
    got, _ = run(Call(lambda a, b, c: (a @ b) @ c), {}, a, b, c)
    fa, fb, fc = fractions(a), fractions(b), fractions(c)
    inner = [
        [sum((fa[i * 40 + k] * fb[k * 2 + j] for k in range(40)), Fraction()) for j in (0, 1)]
        for i in range(3)
    ]
    once = [[Fraction(torch.tensor(float(v)).item()) for v in row] for row in inner]
    outer = [[sum(row[k] * fc[2 * k + j] for k in (0, 1)) for j in (0, 1)] for row in once]
    assert got.equal(torch.tensor([[float(v) for v in row] for row in outer]))


def test_a_residual_sum_stays_exact_up_to_its_cast() -> None:
    """In fp32 the square of 1 + 2^-12 loses the bit that breaks the tie between 6 and 7."""
    x, y = torch.full((2, 1), 1 + 2.0**-12), torch.full((2, 1), 6.5 - 2.0**-11)
    graph = capture(Call(lambda x, y: x * x - 1.0 + y), (x, y))
    output = next(name for name in sites(graph) if name.startswith("output"))
    quantized = quantize(graph, Plan({output: "fixed(8,0)"}))
    assert exact(quantized)(x, y).tolist() == [[7.0], [7.0]]
    assert quantized(x, y).tolist() == [[6.0], [6.0]]


def test_average_pooling_rounds_a_rational() -> None:
    x = torch.randint(-40, 40, (1, 2, 9, 9), generator=torch.Generator().manual_seed(0)) / 4
    graph = capture(nn.AvgPool2d(3), (x,))
    output = next(name for name in sites(graph) if name.startswith("output"))
    got = exact(quantize(graph, Plan({output: "fixed(8,1)"})))(x)
    sums = [Fraction(v) for v in (F.avg_pool2d(x, 3, divisor_override=1)).flatten().tolist()]
    assert got.flatten().tolist() == [float(fixed(s / 9, 8, 1)) for s in sums]


@pytest.mark.parametrize("name", ["exp", "sigmoid", "gelu", "tanh"])
def test_a_table_followed_by_a_scalar_cast_rounds_once(name: str) -> None:
    function = {"gelu": F.gelu}.get(name, getattr(torch, name, None))
    assert function is not None
    x = (torch.arange(-1500, 1500) / 256).unsqueeze(0)
    graph = capture(Call(function), (x,))
    entries = dict.fromkeys(sites(graph), "fixed(16,8)")
    output = next(s for s in sites(graph).values() if s.arg is None and s.operand == "output")
    entries = {next(s for s in entries if s.endswith("input")): "fixed(16,8)"}
    got = exact(quantize(graph, Plan({**entries, output.name: "fixed(16,9)"})))(x)
    true: dict[str, Callable[..., object]] = {
        "exp": mp.exp,
        "sigmoid": lambda v: 1 / (1 + mp.exp(-v)),
        "gelu": lambda v: v * mp.erfc(-v / mp.sqrt(2)) / 2,
        "tanh": mp.tanh,
    }
    with mp.workprec(200):
        once = [int(mp.nint(true[name](mpf(v)) * 512)) for v in x.flatten().tolist()]
    expected = (torch.tensor(once) / 512).clamp(max=32767 / 512)
    assert got.flatten().equal(expected)


def test_a_table_with_two_users_gives_fp32_first() -> None:
    """Where one user wants the function itself, the cast takes the same fp32 numbers."""
    x = (torch.arange(-2048, 2048) / 256).unsqueeze(0)

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.exp(x)
        return y * 1.0, torch.relu(y)

    graph = capture(Call(function), (x,))
    entries = {s.name: "fixed(16,8)" for s in sites(graph).values() if s.operand == "input"}
    names = [n for n in entries if n.startswith("exp")]
    relu = [n for n in entries if n.startswith("relu")]
    got, cast_result = exact(
        quantize(graph, Plan({names[0]: "fixed(16,8)", relu[0]: "fixed(16,13)"}))
    )(x)
    assert cast_result.equal(parse("fixed(16,13)").quantize(got))


def test_a_table_of_a_wide_input_is_a_float_function() -> None:
    x = randn(3, 50)
    got, _ = run(nn.GELU(), {}, x)
    assert got.equal(F.gelu(x.double()).float())


def test_softmax_of_fixed_scores_with_a_mask() -> None:
    scores = torch.randint(-90, 90, (2, 3, 7), generator=torch.Generator().manual_seed(0)) / 16
    hidden = torch.rand(2, 3, 7, generator=torch.Generator().manual_seed(1)) < 0.3
    hidden[0, 0] = True

    def function(scores: Tensor, hidden: Tensor) -> Tensor:
        return torch.softmax(scores.masked_fill(hidden, float("-inf")), -1)

    graph = capture(Call(function), (scores, hidden))
    known = {s.operand: s.name for s in sites(graph).values() if s.op == "softmax"}
    plan = Plan({known["input"]: "fixed(8,4)", known["output"]: "ufixed(8,8)"})
    got = exact(quantize(graph, plan))(scores, hidden)
    rational = softmax((scores * 16).long(), 8, 4, -1, hidden)
    assert got.equal(exact_cast(rational, "ufixed(8,8)").to_float32())
    assert got[0, 0].tolist() == [0.0] * 7
    lowest = scores.masked_fill(hidden, torch.finfo(torch.float32).min)
    additive = torch.where(hidden, torch.finfo(torch.float32).min, 0.0)
    added = capture(Call(lambda s, m: torch.softmax(s + m, -1)), (scores, additive))
    assert exact(quantize(added, Plan(plan)))(scores, additive).equal(got)
    assert lowest.min() < -1e38


def test_a_block_of_probabilities_takes_its_exponent_from_the_rational() -> None:
    codes = torch.randint(-128, 128, (4, 32), generator=torch.Generator().manual_seed(2))
    rational = softmax(codes, 8, 4, -1)
    got = exact_cast(rational, "mxint8").fractions()
    values = rational.fractions()
    for row in range(4):
        block = values[row * 32 : row * 32 + 32]
        exponent = math.floor(math.log2(max(block)))
        step = Fraction(2) ** (exponent - 6)
        expected = [min(round(v / step), 127) * step for v in block]
        assert got[row * 32 : row * 32 + 32] == expected


def test_layer_norm_of_fixed_and_of_other_inputs() -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(12)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = randn(5, 12)
    graph = capture(norm, (x,))
    known = {s.operand: s.name for s in sites(graph).values() if s.op == "layer_norm"}
    got = exact(quantize(graph, Plan({known["input"]: "fixed(8,4)"})))(x)
    codes = (parse("fixed(8,4)").quantize(x) * 16).long()
    weight, bias = from_float(norm.weight), from_float(norm.bias)
    assert got.equal(layer_norm(codes, 4, 1, weight, bias, norm.eps).to_float32())
    plain = exact(quantize(graph, Plan()))(x)
    parameters = (norm.weight.double(), norm.bias.double())
    assert plain.equal(F.layer_norm(x.double(), (12,), *parameters, norm.eps).float())


def test_an_unknown_op_runs_in_fp32() -> None:
    x = randn(4, 9)
    got, _ = run(Call(lambda x: torch.cumsum(x, -1) @ x.T), {}, x)
    prefix = torch.cumsum(x, -1)
    expected = exact(capture(Call(lambda a, b: a @ b.T), (prefix, x)))(prefix, x)
    assert got.equal(expected)


def test_signs_of_zero() -> None:
    x = torch.tensor([[0.0, -0.0, -(2.0**-140), 1.0]])
    graph = capture(Call(lambda x: x * 0.5), (x,))
    output = next(name for name in sites(graph) if name.startswith("output"))
    for format, negative in (("fp8_e4m3", True), ("fixed(8,4)", False)):
        got = exact(quantize(graph, Plan({output: format})))(x)[0]
        assert got.tolist() == [0, 0, 0, 0.5]
        assert got.signbit().tolist() == [False, False, negative, False]
    assert exact(graph)(x)[0].signbit().tolist() == [False, False, True, False]


def test_keywords_nested_results_and_batch_sizes() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor, mask: Tensor) -> dict[str, object]:
            return {"y": self.fc(x) + mask, "more": (x, x.shape[0], mask > 0)}

    inputs = {"x": randn(2, 4), "mask": randn(2, 3, seed=1)}
    model = Model()
    judge = exact(capture(model, inputs))
    x, mask = randn(5, 4, seed=2), randn(5, 3, seed=3)
    result = judge(mask=mask, x=x)
    torch.testing.assert_close(result["y"], model(x, mask)["y"], rtol=0, atol=1e-6)
    assert result["y"].dtype == torch.float32
    copied, batch, positive = result["more"]
    assert copied.equal(x)
    assert batch == 5
    assert positive.equal(mask > 0)


@pytest.mark.parametrize("format", ["fixed(8,4)", "fp8_e4m3", "bf16", "fp32", "log(8)"])
def test_the_order_of_the_inner_axis_cannot_matter(format: str) -> None:
    x, weight = randn(6, 100) * 4, randn(8, 100, seed=1)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(2))
    function = Call(lambda x, w: F.linear(x, w))
    graph = capture(function, (x, weight))
    operands = [s.name for s in sites(graph).values() if s.is_operand]
    judge = exact(quantize(graph, Plan(dict.fromkeys(operands, format))))
    assert judge(x, weight).equal(judge(x[:, order], weight[:, order]))


@pytest.mark.parametrize("format", ["mxint4", "mxfp8_e4m3", "fp32", "fp8_e5m2", "bfp(8)", "int8"])
@pytest.mark.parametrize("k", [3, 64, 1000])
def test_fast_executor_obeys_the_bound(format: str, k: int) -> None:
    """numerics.md: |fast - exact| <= 2 (K + 2) 2^-24 (sum |a b| + |bias|)."""
    torch.manual_seed(k)
    model = nn.Linear(k, 16)
    x = randn(32, k, seed=k) * torch.exp(2 * randn(32, k, seed=k + 1))
    graph = capture(model, (x,))
    quantized = quantize(graph, Plan.uniform(graph, format))
    fast, true = quantized(x).detach(), exact(quantized)(x)
    rounded = parse(format).quantize
    magnitudes = F.linear(
        rounded(x, -1).abs().double(),
        rounded(model.weight, 1).abs().double(),
        model.bias.abs().double(),
    )
    # The exact result is rounded to fp32 at the graph's edge: half a unit more.
    bound = (2 * (k + 2) + 1) * 2.0**-24 * magnitudes
    assert ((fast.double() - true.double()).abs() <= bound).all()


def test_a_convolution_over_patches_is_the_convolution_of_rounded_windows() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    x = randn(2, 3, 7, 7)
    graph = capture(conv, (x,))
    got = exact(quantize(graph, Plan.uniform(graph, "mxint8")))(x)
    block = parse("mxint8")
    windows = F.unfold(x, 3, padding=1, stride=2).transpose(1, 2)
    weight = block.quantize(conv.weight.flatten(1), 1).double()
    product = F.linear(block.quantize(windows, -1).double(), weight, conv.bias.double())
    expected = product.transpose(1, 2).reshape(got.shape).float()
    assert got.equal(expected)


@pytest.mark.parametrize("format", ["mxint8", "mxfp4", "fixed(8,5)", "bl(4)", "nvfp4", "int4"])
def test_a_small_transformer_near_the_fast_executor(format: str) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.1).eval()
    x = randn(4, 9, 32)
    graph = capture(model, (x,))
    quantized = quantize(graph, Plan.uniform(graph, format)).eval()
    fast, true = quantized(x).detach(), exact(quantized)(x)
    # A code that flips at a rounding boundary moves its row; nearly all rows see none.
    error = (fast - true).abs().amax(-1)
    assert (error < 1e-4).float().mean() > 0.75
    assert error.mean() < 0.02


def test_exact_leaves_the_graph_and_gradients_alone() -> None:
    model = nn.Linear(4, 2)
    x = randn(3, 4).requires_grad_()
    graph = capture(model, (x,))
    result = exact(graph)(x)
    assert not result.requires_grad
    assert model.weight.grad is None


def test_real_scales_take_the_nearest_fp32_first() -> None:
    third = scale(from_float(randn(3, 64)), Fraction(1, 3))
    for format in ("int8", "int4_g128", "nvfp4", "nf4"):
        expected = parse(format).quantize(third.to_float32(), -1)
        assert exact_cast(third, format).to_float32().equal(expected + 0.0)
