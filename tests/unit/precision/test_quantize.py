"""`quantize` and `Switchable`: values against casts by hand, shared tensors, modes, gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import quire
from quire import Plan
from quire.errors import PlanError
from quire.formats import parse
from quire.graph import type_of
from quire.precision import Switchable, copy_graph
from quire.precision.cast import cast

FORMATS = ["mxint4", "fixed(8,4)", "int8", "bfp(4,size=4)", "nvfp4", "uint4_g128", "fp32"]


def casts(q: torch.fx.GraphModule) -> list[torch.fx.Node]:
    return q.graph.find_nodes(op="call_function", target=cast)


@torch.no_grad()
def test_operands_of_linear_layers(mlp) -> None:
    m, x, f = mlp.model, mlp.x, parse("mxint4")
    q = quire.quantize(mlp.graph, Plan.uniform(mlp.graph, "mxint4"))
    hidden = F.linear(f.quantize(x), f.quantize(m.fc1.weight, 1), m.fc1.bias).relu()
    assert torch.equal(q(x), F.linear(f.quantize(hidden), f.quantize(m.fc2.weight, 1), m.fc2.bias))


@torch.no_grad()
def test_inputs_outputs_results_and_constants(cnn) -> None:
    m, x = cnn.model, cnn.x
    f = {n: parse(n) for n in ("fixed(8,5)", "fixed(8,4)", "fixed(8,3)", "fixed(8,2)", "log(4)")}
    plan = {"input.x": "fixed(8,5)", "act.input": "fixed(8,4)", "act.slope": "log(4)"}
    plan |= {"act.output": "fixed(8,3)", "output.0": "fixed(8,2)"}
    q = quire.quantize(cnn.graph, Plan(plan))
    h = m.norm(m.conv1(f["fixed(8,5)"].quantize(x)))
    h = F.leaky_relu(f["fixed(8,4)"].quantize(h), 0.25)
    y = m.fc(m.conv2(f["fixed(8,3)"].quantize(h)).flatten(1))
    torch.testing.assert_close(q(x), f["fixed(8,2)"].quantize(y), rtol=0, atol=0)


@torch.no_grad()
def test_blocks_of_a_convolution_lie_in_its_windows(cnn) -> None:
    m, x, f = cnn.model, cnn.x, parse("bfp(4,size=8)")
    plan = Plan({"conv2.input": "bfp(4,size=8)", "conv2.weight": "bfp(4,size=8)"})
    q = quire.quantize(cnn.graph, plan)
    h = F.leaky_relu(m.norm(m.conv1(x)), 0.3)
    windows = F.unfold(h, 3, stride=2).unflatten(1, (2, 36))  # batch, groups, window, outputs
    weight = f.quantize(m.conv2.weight.flatten(1), 1).unflatten(0, (2, 3))
    y = (weight @ f.quantize(windows, 2)).reshape(5, 6, 3, 3)
    torch.testing.assert_close(q(x), m.fc(y.flatten(1)))


@torch.no_grad()
def test_a_folded_weight_is_cast_after_folding(cnn) -> None:
    m, x, f = cnn.model, cnn.x, parse("int4")
    q = quire.quantize(cnn.graph, Plan({"conv1.weight": "int4"}))
    factor = m.norm.weight.double() * torch.rsqrt(m.norm.running_var.double() + m.norm.eps)
    weight = (m.conv1.weight.double() * factor.view(-1, 1, 1, 1)).float()
    bias = ((m.conv1.bias - m.norm.running_mean).double() * factor + m.norm.bias).float()
    h = F.conv2d(x, f.quantize(weight.flatten(1), 1).view_as(weight), bias, padding=1)
    torch.testing.assert_close(q(x), m.fc(m.conv2(F.leaky_relu(h, 0.3)).flatten(1)))


def test_tied_operands_are_cast_once(lm) -> None:
    q = quire.quantize(lm.graph, Plan({"k.input": "mxint4", "head.weight": "int8"}))
    assert [set(node.meta["quire_sites"]) for node in casts(q)] == [
        {"embed.weight", "head.weight"},
        {"q.input", "k.input", "v.input"},
    ]


def test_casts_are_typed(mlp) -> None:
    q = quire.quantize(mlp.graph, Plan({"fc1.input": "mxint4"}))
    (node,) = casts(q)
    assert str(type_of(node)) == "mxint4[batch, 64]"
    assert str(type_of(node.args[0])) == "fp32[batch, 64]"


def test_an_empty_plan_changes_nothing(case) -> None:
    q = quire.quantize(case.graph, Plan())
    assert torch.equal(q(case.x), case.graph(case.x))
    assert casts(q) == []


def test_parameters_are_shared_and_map_back(case) -> None:
    q = quire.quantize(case.graph, Plan.uniform(case.graph, "mxint4"))
    parameters = dict(case.model.named_parameters(remove_duplicate=False))
    assert all(p is parameters[name] for name, p in q.named_parameters(remove_duplicate=False))
    assert q.state_dict().keys() == case.model.state_dict().keys()
    case.fresh().load_state_dict(q.state_dict())


def test_a_copy_can_own_its_parameters(lm) -> None:
    graph = copy_graph(lm.graph, share=False)
    old, new = lm.graph.state_dict(), graph.state_dict()
    assert old.keys() == new.keys()
    assert all(torch.equal(old[n], new[n]) and old[n] is not new[n] for n in old)
    assert graph.head.weight is graph.embed.weight
    assert not {p.data_ptr() for p in graph.parameters()} & {
        p.data_ptr() for p in lm.graph.parameters()
    }
    plan = Plan.uniform(graph, "mxint4")
    assert torch.equal(quire.quantize(graph, plan)(lm.x), quire.quantize(lm.graph, plan)(lm.x))


def test_layers_that_forward_does_not_call_stay_in_the_state_dict() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(4, 4), nn.ModuleDict()
            for name in ("a", "b", "c"):
                self.spare[name] = nn.Sequential(nn.Sequential(nn.Linear(4, 4)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    graph = quire.capture(Spare(), (torch.randn(2, 4),))
    q = quire.quantize(graph, Plan.uniform(graph, "int8"))
    assert q.state_dict().keys() == graph.state_dict().keys()
    assert q.get_parameter("spare.c.0.0.weight") is graph.get_parameter("spare.c.0.0.weight")


def test_modes_of_a_quantized_graph_are_its_own(mlp) -> None:
    q = quire.quantize(mlp.graph, Plan.uniform(mlp.graph, "mxint8"))
    expected = q(mlp.x)
    q.train()
    torch.manual_seed(0)
    assert not torch.equal(q(mlp.x), expected)
    assert not mlp.graph.training
    assert not any(module.training for module in mlp.graph.modules())
    assert torch.equal(q.eval()(mlp.x), expected)


def test_gradients_reach_the_parameters(cnn) -> None:
    graph = copy_graph(cnn.graph, share=False)
    q = quire.quantize(graph, Plan.uniform(graph, "mxint8"))
    q(cnn.x).square().sum().backward()
    expected = copy_graph(cnn.graph, share=False)
    expected(cnn.x).square().sum().backward()
    for (name, p), (_, e) in zip(q.named_parameters(), expected.named_parameters(), strict=True):
        assert p.grad is not None, name
        assert F.cosine_similarity(p.grad.flatten(), e.grad.flatten(), 0) > 0.99, name


def test_quantized_graphs_export(case) -> None:
    q = quire.quantize(case.graph, Plan.uniform(case.graph, "mxint4"))
    program = torch.export.export(q, (case.x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    assert torch.equal(program.module()(case.x[:3]), q(case.x[:3]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, by its own compiler
@pytest.mark.parametrize(
    "name", ["mlp", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("cnn", "lm"))]
)
def test_quantized_graphs_compile(name: str, request: pytest.FixtureRequest) -> None:
    case = request.getfixturevalue(name)
    q = quire.quantize(case.graph, Plan.uniform(case.graph, "mxint4"))
    torch._dynamo.reset()
    compiled = torch.compile(q, fullgraph=True, backend="aot_eager")
    with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
        for batch in (5, 3):
            x = case.x[:batch].clone()
            torch._dynamo.mark_dynamic(x, 0)
            torch.testing.assert_close(compiled(x), q(x))


def test_a_quantized_graph_is_not_quantized_again(mlp) -> None:
    quantized = quire.quantize(mlp.graph, Plan.uniform(mlp.graph, "mxint4"))
    with pytest.raises(PlanError, match="has the casts of a plan already, and would round twice"):
        quire.quantize(quantized, Plan.uniform(quantized, "mxint8"))
    plan = Plan.uniform(mlp.graph, "mxint8")
    again = quire.quantize(quire.quantize(mlp.graph, Plan()), plan)  # nothing was rounded yet
    assert torch.equal(again(mlp.x), quire.quantize(mlp.graph, plan)(mlp.x))


def test_a_format_that_does_not_fit_the_dtype() -> None:
    model = nn.Linear(8, 4).to(torch.bfloat16)
    graph = quire.capture(model, (torch.randn(2, 8, dtype=torch.bfloat16),))
    with pytest.raises(PlanError, match=r"is bfloat16: fixed\(16,8\) does not fit bfloat16"):
        quire.quantize(graph, Plan.from_patterns(graph, {"*weight": "fixed(16,8)"}))
    q = quire.quantize(graph, Plan.uniform(graph, "mxint8"))
    assert q(torch.ones(3, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("scope", ["operands", "all"])
def test_switchable_is_quantize(case, scope) -> None:
    switchable = Switchable(case.graph)
    with torch.no_grad():
        for format in [*FORMATS, *FORMATS]:
            plan = Plan.uniform(case.graph, format, scope)
            expected = quire.quantize(case.graph, plan)(case.x)
            assert torch.equal(switchable.use(plan)(case.x), expected), format
        assert torch.equal(switchable.use(Plan())(case.x), case.graph(case.x))


def test_switchable_sees_changed_parameters(mlp) -> None:
    graph = copy_graph(mlp.graph, share=False)
    plan = Plan.uniform(graph, "mxint4")
    module = Switchable(graph).use(plan)
    with torch.no_grad():
        before = module(mlp.x)
        graph.fc1.weight.mul_(2)
        assert torch.equal(module(mlp.x), quire.quantize(graph, plan)(mlp.x))
        assert not torch.equal(module(mlp.x), before)
    module(mlp.x).sum().backward()
    assert graph.fc1.weight.grad is not None
