"""The Dynamo backend "quire": casts by the plan's names in every graph, across graph breaks."""

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.nn import functional

import quire
from quire.errors import CompileError
from quire.software.dynamo_graph import path_of
from quire.software.report import Report

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
    pytest.mark.usefixtures("fresh_compiler"),
]


class Block(nn.Module):
    """Two layers with a residual, and a graph break between them if asked."""

    def __init__(self, breaks: bool) -> None:
        super().__init__()
        self.fc1, self.fc2, self.breaks = nn.Linear(64, 32), nn.Linear(32, 64), breaks
        self.register_buffer("shift", torch.full((32,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.gelu(self.fc1(x)) + self.shift
        if self.breaks:
            torch._dynamo.graph_break()
        return x + self.fc2(y)


class Model(nn.Module):
    def __init__(self, breaks: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.Sequential(Block(breaks), Block(breaks))
        self.head = nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x))


def rows(size: int) -> Tensor:
    return torch.randn(size, 64, generator=torch.Generator().manual_seed(size))


# Each block has a format of its own, though Dynamo compiles both with the same code.
PLAN = {
    "blocks.*.input": "mxint8",
    "blocks.0.fc*.weight": "mxint4",
    "blocks.1.fc*.weight": "fixed(4,2)",
    "blocks.1.add.bias": "fixed(8,4)",
}


def expected() -> torch.fx.GraphModule:
    graph = quire.capture(Model().eval(), (rows(2),))
    return quire.quantize(graph, quire.Plan.from_patterns(graph, PLAN))


def compiled(model: nn.Module, **options: object) -> nn.Module:
    options = {"plan": PLAN, "compiler": "eager", **options}
    return torch.compile(model, backend="quire", options=options)  # type: ignore[return-value]


@pytest.mark.parametrize("breaks", [False, True])
@torch.no_grad()
def test_graphs_have_the_casts_of_the_plan(breaks: bool) -> None:
    report = Report()
    fast, q = compiled(Model(breaks).eval(), report=report), expected()
    for size in (3, 5, 1, 4):
        assert torch.equal(fast(rows(size)), q(rows(size)))
    # What a module does several times is numbered within each graph.
    placed = {name.replace("add_1", "add") for name in report.placed}
    assert placed == {name.replace("add_1", "add") for name in q.meta["quire_plan"]}


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # Dynamo reads it at a graph break
def test_gradients_pass_through_every_graph() -> None:
    model, q = Model(True), expected()
    fast = compiled(model)
    for size in (3, 5):
        fast(rows(size)).square().sum().backward()
        q(rows(size)).square().sum().backward()
    reference = dict(q.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, reference[name].grad, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_weights_follow_their_parameters() -> None:
    model, q = Model(True).eval(), expected()
    fast = compiled(model)
    fast(rows(3))
    for name, parameter in q.named_parameters():
        parameter.mul_(1.5)
        model.get_parameter(name).mul_(1.5)
    assert torch.equal(fast(rows(3)), q(rows(3)))


@torch.no_grad()
def test_a_plan_of_exact_names_and_a_file(tmp_path) -> None:
    q = expected()
    path = tmp_path / "plan.json"
    q.meta["quire_plan"].save(path)
    for plan in (q.meta["quire_plan"], str(path)):
        torch.compiler.reset()
        assert torch.equal(compiled(Model(True).eval(), plan=plan)(rows(3)), q(rows(3)))


@torch.no_grad()
def test_without_a_plan_the_passes_run() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = (x @ x.transpose(-2, -1) * 0.1).softmax(-1) @ x
            torch._dynamo.graph_break()
            return y + 1

    report, x = Report(), torch.randn(2, 3, 5, 8)
    fast = compiled(Attention(), plan=None, report=report)
    torch.testing.assert_close(fast(x), Attention()(x))
    assert [str(o) for o in report.kept()] == [
        "fuse_attention: (root): matmul_1: one kernel whose scores never reach memory"
    ]


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(BackendCompilerFailed, match="no option 'plam': it takes plan, passes"):
        compiled(Model(), plam=PLAN)(rows(2))


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("L['self']._modules['fc1']._parameters['weight']", "fc1.weight"),
        ("L['s']._modules['layers']._modules['0']._buffers['b']", "layers.0.b"),
        ("L['self'].layers.0.fc1", "layers.0.fc1"),
        ("L['self'].layers[1].attn", "layers.1.attn"),
        ("G['model']", ""),
    ],
)
def test_names_of_dynamo_are_module_paths(source: str, path: str) -> None:
    assert path_of(source) == path


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_dropout_follows_the_mode_of_the_model_and_not_gradients(training, gradients) -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5)).train(training)
    fast = torch.compile(model, backend="quire", options={"compiler": "eager"})
    with torch.set_grad_enabled(gradients):
        zeros = (fast(rows(8)) == 0).double().mean()
    assert (0.3 < zeros < 0.7) if training else zeros == 0


@pytest.mark.parametrize(
    "drop",
    [
        lambda x: functional.alpha_dropout(x, 0.5),
        lambda x: torch.dropout(x, p=0.5, train=False),
        lambda x: functional.dropout(x, 0.5, training=False),
    ],
)
def test_a_dropout_that_drops_nothing_is_in_evaluation_mode(drop) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return drop(self.drop(x))

    fast = torch.compile(Model().eval(), backend="quire", options={"compiler": "eager"})
    with torch.no_grad():
        assert torch.equal(fast(rows(2)), rows(2))


def test_dropouts_in_two_modes_are_refused() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 8), nn.Dropout(0.5)).eval()
    model[0].train()
    fast = torch.compile(model, backend="quire", options={"compiler": "eager"})
    with pytest.raises(CompileError, match=r"some dropouts .* call train"):
        fast(rows(2))
