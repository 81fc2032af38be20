"""`quire.compile`: the values and gradients of the eager graph, for every batch, in one graph."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._inductor.utils import run_and_get_code
from torch.nn import functional

import quire
from quire.errors import CompileError, PlanError
from quire.precision.cast import cast
from quire.software.passes.merge_projections import MERGE_PROJECTIONS

# Raised inside torch while its compiler is first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

EAGER = "aot_eager"  # traces as Inductor does, and runs the traced graph op by op


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


class Layer(nn.Module):
    """A layer with naive attention and dropout; x is (batch, tokens, 64)."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(0.5)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.fc1, self.fc2 = nn.Linear(width, 96), nn.Linear(96, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        q, k, v = (f(y).unflatten(-1, (4, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        p = (q @ k.transpose(-2, -1) / 4).softmax(-1)
        y = self.drop(p @ v).transpose(1, 2).flatten(2)
        return x + self.fc2(functional.gelu(self.fc1(y)))


def layer() -> nn.Module:
    torch.manual_seed(0)
    return Layer().eval()


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 32)).eval()


def batch(size: int, tokens: int = 8) -> Tensor:
    return torch.randn(size, tokens, 64, generator=torch.Generator().manual_seed(size))


def rows(size: int) -> Tensor:
    return torch.randn(size, 64, generator=torch.Generator().manual_seed(size))


def assert_one_graph() -> None:
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@torch.no_grad()
def test_every_batch_runs_in_one_compilation() -> None:
    model = layer()
    graph = quire.capture(model, (batch(2),))
    plan = quire.Plan.uniform(graph, "mxint8")
    fast, q = quire.compile(model, plan, compiler=EAGER), quire.quantize(graph, plan)
    for size in (3, 1, 5, 2):
        torch.testing.assert_close(fast(batch(size)), q(batch(size)), rtol=0, atol=1e-6)
    assert_one_graph()
    assert vars(batch(3)) == {}


@torch.no_grad()
def test_inductor_gives_the_bits_of_a_quantized_mlp_for_every_batch() -> None:
    model = mlp()
    graph = quire.capture(model, (rows(2),))
    q = quire.quantize(graph, quire.Plan.uniform(graph, "mxint4"))
    fast = quire.compile(q)
    for size in (5, 1, 3):
        x = rows(size)
        torch.testing.assert_close(fast(x), q(x), rtol=0, atol=1e-6)
        assert not [name for name in vars(x) if "dynamo" in name]
    assert_one_graph()


@torch.no_grad()
def test_a_cast_is_one_kernel_with_what_comes_before_it() -> None:
    """linear, GELU, cast; and norm, cast: one generated kernel between two products."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 32)).eval()
    graph = quire.capture(model, (rows(2),))
    fast = quire.compile(quire.quantize(graph, quire.Plan.uniform(graph, "mxint8")))
    _, (code,) = run_and_get_code(fast, rows(8))
    body = code[code.index("def call(") :]
    calls = [line.split("(")[0].strip() for line in body.splitlines() if "_fused_" in line or
             "extern_kernels." in line]  # fmt: skip
    kinds = ["fused" if "_fused_" in call else call.split(".")[-1] for call in calls]
    assert kinds == ["fused", "addmm", "fused", "addmm"]
    assert "native_layer_norm" in calls[0]
    assert "gelu" in calls[2]


def test_gradients_are_those_of_eager_for_every_batch() -> None:
    model = layer()
    graph = quire.capture(model, (batch(2),))
    plan = quire.Plan.uniform(graph, "mxint8")
    fast, q = quire.compile(model, plan, compiler=EAGER), quire.quantize(graph, plan)
    for size in (2, 1):
        gradients = []
        for run in (fast, q):
            model.zero_grad()
            run(batch(size)).square().sum().backward()
            gradients.append({n: p.grad for n, p in model.named_parameters() if n != "k.bias"})
        for name, grad in gradients[1].items():
            torch.testing.assert_close(gradients[0][name], grad, rtol=1e-5, atol=1e-4, msg=name)
    assert_one_graph()


def test_inductor_trains_a_quantized_layer() -> None:
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
    graph = quire.capture(model, (rows(2),))
    q = quire.quantize(graph, quire.Plan.uniform(graph, "mxint4"))
    fast = quire.compile(q)
    fast(rows(6)).square().sum().backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    q(rows(6)).square().sum().backward()
    for got, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_weights_are_cast_once_and_follow_their_parameters() -> None:
    model = mlp()
    fast = quire.compile(model, "mxint4", compiler="eager", example_inputs=(rows(2),))
    q = quire.quantize(
        graph := quire.capture(model, (rows(2),)), quire.Plan.uniform(graph, "mxint4")
    )
    x = rows(4)
    assert torch.equal(fast(x), q(x))
    (program,) = fast.programs()
    assert len(program.graph.graph.find_nodes(op="call_function", target=cast)) == 2
    assert [tuple(value.shape) for value in program.static.values] == [(64, 64), (32, 64)]
    model[0].weight.mul_(2)
    assert torch.equal(fast(x), q(x))
    model.load_state_dict({name: -p for name, p in model.state_dict().items()})
    assert torch.equal(fast(x), q(x))
    before = fast(x)
    model[2].weight.data.mul_(3)
    fast.refresh()
    assert torch.equal(fast(x), q(x))
    assert not torch.equal(fast(x), before)
    with torch.inference_mode():
        assert torch.equal(fast(x), q(x))


class Noisy(nn.Module):
    """A layer that adds noise to its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.abs() + torch.randn_like(self.weight))


@torch.no_grad()
def test_noise_on_a_weight_is_drawn_in_each_call() -> None:
    fast, x = quire.compile(model := Noisy(), compiler="eager"), torch.eye(8)
    fast(x)  # captures
    torch.manual_seed(0)
    found = [fast(x), fast(x)]
    torch.manual_seed(0)
    assert torch.equal(torch.stack(found), torch.stack([model(x), model(x)]))
    assert not torch.equal(*found)
    (program,) = fast.programs()
    assert len(program.static.names) == 1  # |weight|, which no chance enters


def test_threads_may_call_at_once() -> None:
    model, x = mlp(), rows(4)
    fast = quire.compile(model, "mxint8", compiler="eager")
    graph = quire.capture(model, (x,))
    q = quire.quantize(graph, quire.Plan.uniform(graph, "mxint8"))

    def call(_: int) -> Tensor:
        with torch.no_grad():
            return fast(x)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(call, range(4)))
    with torch.no_grad():
        assert all(torch.equal(result, q(x)) for result in found)
    assert len(fast.programs()) == 1


def test_modes_of_training_have_programs_of_their_own() -> None:
    model = layer()
    fast = quire.compile(model, compiler="eager")
    x = batch(4)
    with torch.no_grad():
        expected = fast(x)
        fast.train()
        torch.manual_seed(0)
        assert not torch.equal(fast(x), expected)
        fast.eval()
        assert torch.equal(fast(x), expected)
    fast(x).sum().backward()
    assert model.q.weight.grad is not None
    assert len(fast.programs()) == 3
    assert {str(o) for o in fast.report.refused("fuse_attention")} == set()


@torch.no_grad()
def test_other_sizes_get_graphs_of_their_own() -> None:
    model = layer()
    fast = quire.compile(model, compiler="eager")
    for tokens in (8, 6, 8):
        torch.testing.assert_close(fast(batch(2, tokens)), model(batch(2, tokens)))
    assert len(fast.programs()) == 2


@torch.no_grad()
def test_the_report_says_what_happened() -> None:
    fast = quire.compile(layer(), {"*.weight": "mxint8", "pv.probs": "int8"}, compiler="eager")
    fast(batch(2))
    text = str(fast.report)
    assert "merge_projections rewrote q, k, v: linear, linear_1, linear_2: one larger" in text
    assert "fuse_attention left (root): matmul_1: a cast to int8 rounds the probabilities" in text
    assert "5 tensors that only parameters decide are computed once" in text
    assert "7 sites have formats of the plan" in text
    only = quire.compile(layer(), compiler="eager", passes=(MERGE_PROJECTIONS,))
    only(batch(2))
    assert {outcome.rewrite for outcome in only.report.outcomes} == {"merge_projections"}


class Branch(nn.Module):
    """Control flow that depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        return y + 1 if y.sum() > 0 else y - 1


@torch.no_grad()
def test_a_model_without_one_graph_goes_through_dynamo() -> None:
    torch.manual_seed(0)
    model = Branch()
    fast = quire.compile(model, {"fc.*": "fixed(8,4)"}, compiler="eager")
    x = rows(3)
    y = functional.linear(*(cast(t, "fixed(8,4)") for t in (x, model.fc.weight, model.fc.bias)))
    assert torch.equal(fast(x), y + 1 if y.sum() > 0 else y - 1)
    assert "its control flow depends on the values of a tensor" in str(fast.report)
    assert fast.report.placed == ["fc.input", "fc.weight", "fc.bias"]


class Doubler(nn.Module):
    scale = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)

    def twice(self, x: Tensor) -> Tensor:
        return self.scale * self(x)


def test_a_method_of_the_model_does_not_run_it_without_its_plan() -> None:
    fast, plain = (quire.compile(Doubler(), plan, compiler="eager") for plan in ("mxint4", None))
    assert fast.scale == 2.0
    assert not hasattr(fast, "twice")
    with pytest.raises(AttributeError, match=r"twice\(\) .* without the plan.*quire\.apply"):
        fast.twice(torch.ones(1, 4))
    x = torch.ones(1, 4)
    assert torch.equal(plain.twice(x), plain.model.twice(x))


class Constant(nn.Module):
    def forward(self, x: Tensor, k: float) -> Tensor:
        return x + 10 if k is True else x * k


@torch.no_grad()
def test_constants_that_python_takes_for_equal_are_captured_apart() -> None:
    x, model = torch.arange(3), Constant()
    fast = quire.compile(model, compiler="eager")
    for k in (1, 1.0, True):
        assert fast(x, k).dtype == model(x, k).dtype
        assert torch.equal(fast(x, k), model(x, k))


@torch.no_grad()
def test_a_call_outside_of_autocast_is_not_served_by_one_inside() -> None:
    model = nn.Linear(64, 8)
    fast = quire.compile(model, compiler="eager")
    with torch.autocast("cpu", torch.bfloat16):
        assert fast(rows(2)).dtype == model(rows(2)).dtype == torch.bfloat16
    assert torch.equal(fast(rows(2)), model(rows(2)))


def test_weights_written_between_inference_mode_and_no_grad_are_cast_again() -> None:
    model = nn.Linear(64, 8)
    fast = quire.compile(model, "mxint8", compiler="eager")
    with torch.inference_mode():
        before = fast(rows(2))
    with torch.no_grad():
        model.weight.mul_(2)
        model.bias.mul_(2)
        assert torch.equal(fast(rows(2)), 2 * before)


class Masked(nn.Module):
    """Attention with its mask in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("visible", torch.ones(8, 8, dtype=torch.bool).tril())

    def forward(self, x: Tensor) -> Tensor:
        scores = (x @ x.transpose(-2, -1) / 8).masked_fill(~self.visible, -1e4)
        return scores.softmax(-1) @ x


@torch.no_grad()
def test_a_mask_that_is_written_is_read_again() -> None:
    model, x = Masked().eval(), batch(2)
    fast = quire.compile(model, compiler="eager", example_inputs=(x,))
    torch.testing.assert_close(fast(x), model(x))
    assert fast.report.kept("fuse_attention")
    model.visible.fill_(True)
    torch.testing.assert_close(fast(x), model(x))
    model.visible[3] = False  # a query that sees no key takes all alike
    torch.testing.assert_close(fast(x), model(x))


def test_dropouts_in_two_modes_are_refused() -> None:
    model = nn.Sequential(nn.Linear(64, 8), nn.Dropout(0.5)).eval()
    fast = quire.compile(model, compiler="eager")
    model[1].train()
    with pytest.raises(CompileError, match=r"some dropouts .* call train"):
        fast(rows(2))


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(4, -1, 64).sum(0)


@torch.no_grad()
def test_a_model_that_fixes_its_batch_is_compiled_for_each() -> None:
    fast = quire.compile(FixedBatch(), compiler="eager")
    assert torch.equal(fast(rows(4)), FixedBatch()(rows(4)))
    assert torch.equal(fast(rows(8)), FixedBatch()(rows(8)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plan": 3}, "plan=3 is no plan: give a quire.Plan"),
        ({"mode": "fastest"}, "mode='fastest' is none of .*'reduce-overhead'"),
        ({"example_inputs": torch.ones(1)}, r"example_inputs is a Tensor: give a tuple, such as"),
    ],
    ids=["plan", "mode", "example_inputs"],
)
def test_arguments_of_no_legal_kind_are_refused_at_once(arguments, message) -> None:
    with pytest.raises((CompileError, PlanError), match=message):
        quire.compile(nn.Linear(2, 2), **arguments)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(CompileError, match=r"compile takes an nn\.Module, not a function"):
        quire.compile(batch)
    graph = quire.capture(mlp(), (rows(2),))
    q = quire.quantize(graph, quire.Plan.uniform(graph, "mxint4"))
    with pytest.raises(CompileError, match="the graph is quantized already"):
        quire.compile(q, "mxint4")
    with pytest.raises(PlanError, match=r"no site '3\.weight' in the graph"):
        quire.compile(mlp(), quire.Plan({"3.weight": "mxint4"}), example_inputs=(rows(2),))
    with pytest.raises(PlanError, match=r"plan\.json: cannot be read"):
        quire.compile(mlp(), "plan.json", example_inputs=(rows(2),))
