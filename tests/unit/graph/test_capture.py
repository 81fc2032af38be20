"""Capture: the same values as the model, for any batch, with the model's own parameters."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quire.errors import CaptureError, FixedBatchError
from quire.graph import capture, sites
from quire.ops.fold import folded_weight

aten = torch.ops.aten


def targets(graph: torch.fx.GraphModule) -> list[object]:
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def test_output_equals_the_model_at_every_batch(case):
    graph = case.graph
    for batch in (1, 2, 5):
        expected, found = case.call(case.model, batch), case.call(graph, batch)
        torch.testing.assert_close(found, expected)
        if case.is_bitwise:
            assert all(map(torch.equal, found, expected))


def test_state_dict_has_the_keys_of_the_model_and_shares_its_tensors(case):
    graph = case.graph
    expected, found = case.model.state_dict(keep_vars=True), graph.state_dict(keep_vars=True)
    assert set(found) == set(expected)
    assert all(found[name].data_ptr() == value.data_ptr() for name, value in expected.items())
    assert {id(p) for p in graph.parameters()} == {id(p) for p in case.model.parameters()}


def test_known_models_have_no_unknown_ops(case):
    assert case.graph.meta["quire"].unknown_ops == ()


def test_a_batch_of_one_and_a_dict_of_inputs(make):
    case = make("mlp")
    (x,) = case.inputs
    graph = capture(case.model, {"x": x[:1]})
    assert torch.equal(graph(x=x), case.model(x))


def test_a_fixed_batch(make):
    case = make("mlp")
    graph = capture(case.model, case.inputs, dynamic_batch=False)
    assert next(n for n in graph.graph.nodes if n.name == "linear").meta["quire_type"].shape == (
        2,
        64,
    )


def test_capture_leaves_the_modes_of_the_model_alone(make):
    case = make("mlp")
    case.model.train()
    case.model.drop.eval()
    graph = capture(case.model, case.inputs)
    assert graph.training
    assert case.model.training
    assert not case.model.drop.training


def test_dropout_follows_train_and_eval(make):
    case = make("mlp")
    graph = capture(case.model, case.inputs)
    (x,) = case.inputs
    graph.train()
    torch.manual_seed(1)
    found = graph(x)
    case.model.train()
    torch.manual_seed(1)
    assert torch.equal(found, case.model(x))
    assert torch.equal(graph.eval()(x), case.model.eval()(x))


def test_functional_dropout_keeps_its_rate():
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.25, self.training) + F.dropout(x, 0.75, self.training)

    graph = capture(Model(), (torch.ones(2, 3),))
    rates = [m.p for m in graph.modules() if isinstance(m, nn.Dropout)]
    assert sorted(rates) == [0.25, 0.75]


def test_training_the_graph_trains_the_model(make):
    case = make("cnn")
    graph = capture(case.model, case.inputs).train()
    before = copy.deepcopy(case.model.state_dict())
    graph(*case.inputs).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in case.model.parameters())
    torch.optim.SGD(graph.parameters(), 0.1).step()
    assert not torch.equal(case.model.bn1.weight, before["bn1.weight"])
    assert torch.equal(case.model.bn1.running_var, before["bn1.running_var"])


def test_batch_norm_is_folded_in_float64(make):
    case = make("cnn")
    graph = capture(case.model, case.inputs)
    conv, norm = case.model.conv1, case.model.bn1
    assert targets(graph).count(folded_weight) == 2
    assert aten.batch_norm.default not in targets(graph)
    found = folded_weight(conv.weight, norm.weight, norm.running_var, norm.eps)
    for channel in range(8):
        factor = norm.weight[channel].item() / math.sqrt(norm.running_var[channel].item() + 1e-5)
        expected = conv.weight[channel].double() * factor
        assert torch.equal(found[channel], expected.float())


def test_a_batch_norm_that_follows_no_product_stays():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()).eval()
    graph = capture(model, (torch.randn(2, 4),))
    x = torch.randn(3, 4)
    assert aten.batch_norm.default in targets(graph)
    torch.testing.assert_close(graph(x), model(x))


def test_non_persistent_buffers_and_constants_stay_out_of_the_state_dict():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("offset", torch.ones(4), persistent=False)
            self.register_buffer("kept", torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.offset + torch.tensor([1.0, 2.0, 3.0, 4.0])

    graph = capture(Model(), (torch.randn(2, 4),))
    assert set(graph.state_dict()) == {"kept"}
    assert torch.equal(graph(torch.zeros(1, 4)), torch.tensor([[2.0, 3.0, 4.0, 5.0]]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": torch.randn(5, 5)},
        {"attn_mask": torch.ones(5, 5, dtype=torch.bool).tril(-1)},
    ],
    ids=["plain", "causal", "scale", "float mask", "bool mask"],
)
def test_opened_attention(options):
    class Model(nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, **options)

    torch.manual_seed(0)
    inputs = tuple(torch.randn(2, 3, 5, 8) for _ in range(3))
    graph = capture(Model(), inputs)
    assert targets(graph).count(aten.matmul.default) == 2
    found = graph(*inputs)
    torch.testing.assert_close(found, Model()(*inputs))
    assert not found.isnan().any()  # the bool mask hides every key from the first query


def test_opened_grouped_query_attention():
    class Model(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, k, enable_gqa=True)

    torch.manual_seed(0)
    inputs = (torch.randn(2, 6, 5, 8), torch.randn(2, 2, 5, 8))
    torch.testing.assert_close(capture(Model(), inputs)(*inputs), Model()(*inputs))


def test_rms_norm_and_gelu_are_recognised(read):
    llama, gpt2 = targets(read("llama").graph), targets(read("gpt2").graph)
    assert llama.count(aten.rms_norm.default) == 5
    assert aten.rsqrt.default not in llama
    assert gpt2.count(aten.gelu.default) == 2
    assert aten.tanh.default not in gpt2


def test_einsum_and_products_with_a_transposed_parameter():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, 4)

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.table(tokens)
            return torch.einsum("btd,bsd->bts", x, x) @ (x @ self.table.weight.T)

    model = Model()
    tokens = torch.arange(6).reshape(2, 3)
    graph = capture(model, (tokens,))
    assert graph.meta["quire"].unknown_ops == ()
    assert aten.linear.default in targets(graph)
    torch.testing.assert_close(graph(tokens), model(tokens))


def test_mutation_becomes_functional():
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            y[:, 0] = 0
            y.view(-1).add_(1)
            return y.relu_()

    x = torch.randn(3, 4)
    assert torch.equal(capture(Model(), (x,))(x), Model()(x))


@pytest.mark.parametrize("name", ["layer", "fused layer", "llama", "cnn"])
def test_bfloat16_models(make, name):
    case = make(name)
    model = case.model.bfloat16()
    inputs = case.inputs
    if isinstance(inputs, tuple):
        inputs = tuple(x.bfloat16() for x in inputs)
    graph = capture(model, inputs)
    args, kwargs = (inputs, {}) if isinstance(inputs, tuple) else ((), inputs)
    found, expected = (f(*args, **kwargs) for f in (graph, model))
    found, expected = (y if isinstance(y, Tensor) else y.logits for y in (found, expected))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_unknown_ops_pass_through_and_are_listed():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cumsum(self.inner(x), -1) + torch.logcumsumexp(x, 0)

    model = Model()
    x = torch.randn(3, 4)
    graph = capture(model, (x,))
    assert graph.meta["quire"].unknown_ops == (
        "(root): aten.cumsum.default",
        "(root): aten.logcumsumexp.default",
    )
    assert torch.equal(graph(x), model(x))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # the line that the error names
            return x
        return -x


def test_data_dependent_control_flow_names_the_line(capfd):
    with pytest.raises(CaptureError) as caught:
        capture(Branching(), (torch.randn(2, 4),))
    first = Branching.forward.__code__.co_firstlineno
    assert f"{__file__}:{first + 1}" in str(caught.value)
    assert "Branching cannot be captured: its control flow depends on the values" in str(
        caught.value
    )
    assert capfd.readouterr() == ("", "")


def test_a_model_that_fixes_the_batch_says_so():
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(2, 4)

    with pytest.raises(FixedBatchError, match="fixes the batch size"):
        capture(Model(), (torch.randn(2, 4),))
    graph = capture(Model(), (torch.zeros(2, 4),), dynamic_batch=False)
    assert torch.equal(graph(torch.zeros(2, 4)), torch.ones(2, 4))


def test_a_model_that_writes_its_buffers_is_refused():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            return x * self.count

    with pytest.raises(CaptureError, match=r"writes 'count' of the model in place .*; return the"):
        capture(Model(), (torch.randn(2, 4),))


class Masked(nn.Module):
    """Attention whose mask is its first input."""

    def forward(self, mask: Tensor, x: Tensor) -> Tensor:
        x = x.unsqueeze(1)
        return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)


@pytest.mark.parametrize("shape", [(5, 5), (1, 1, 5, 5)])
def test_a_mask_read_as_a_batch_is_named(shape):
    mask, x = torch.ones(shape, dtype=torch.bool), torch.randn(3, 5, 8)
    words = (
        rf"the batch was read from the first tensor, which has the shape {re.escape(str(shape))}"
    )
    with pytest.raises(CaptureError, match=words):
        capture(Masked(), (mask, x))
    graph = capture(Masked(), {"x": x, "mask": mask})
    torch.testing.assert_close(graph(x=x[:2], mask=mask), Masked()(mask, x[:2]))


def test_an_input_without_a_batch_is_named_or_counts_as_one_example():
    x = torch.randn(6)
    with pytest.raises(CaptureError, match=r"give a tensor with a batch first .* shape \(6,\)"):
        capture(nn.Linear(6, 4), (x,))
    graph = capture(nn.Linear(6, 4), (x,), dynamic_batch=False)
    found = sites(graph)
    assert (found["linear.input"].shape, found["linear.input"].macs) == ((6,), 24)
    fixed = capture(nn.Linear(6, 4), (torch.randn(3, 6),), dynamic_batch=False)
    assert sites(fixed)["linear.input"].shape == (3, 6)  # all of the inputs are the example


def test_inputs_that_forward_does_not_take():
    words = r"do not suit Masked.forward\(mask: .*, x: .*missing a required argument: 'x'"
    with pytest.raises(CaptureError, match=words):
        capture(Masked(), (torch.zeros(2, 4),))
    with pytest.raises(CaptureError, match=r"has the shape \(0, 4\): give one with a value"):
        capture(nn.Linear(4, 4), (torch.zeros(0, 4),))


class Open(nn.Module):
    """Takes any number of inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor, *more: Tensor, **named: Tensor) -> Tensor:
        return self.fc(x) + sum(map(self.fc, more)) - sum(map(self.fc, named.values()))


def test_inputs_of_open_parameters():
    x, y, z = torch.randn(3, 4, 3)
    model = Open()
    for given in ((x,), (x, y, z)):
        graph = capture(model, given)
        assert len(graph.graph.find_nodes(op="placeholder")) == len(given)
        assert torch.equal(graph(*(v[:2] for v in given)), model(*(v[:2] for v in given)))
    named = {"x": x, "a": y, "b": z}
    with pytest.raises(CaptureError, match=r"no batch of what `\*\*kwargs` takes; name these inp"):
        capture(model, named)
    graph = capture(model, named, dynamic_batch=False)
    assert torch.equal(graph(**named), model(**named))


def test_what_is_no_tensor_is_a_constant_of_the_graph():
    class Model(nn.Module):
        def forward(self, x: Tensor, bias: Tensor | None, power: int) -> Tensor:
            return x**power if bias is None else x**power + bias

    x = torch.randn(2, 4)
    graph = capture(Model(), (x, None, 3))
    assert torch.equal(graph(x[:1], None, 3), x[:1] ** 3)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # in torch's own deepcopy
def test_the_graph_exports_and_copies(read):
    case = read("layer")
    graph = case.graph
    again = capture(graph, case.inputs)
    twin = copy.deepcopy(graph)
    for other in (again, twin):
        assert torch.equal(other(*case.inputs), graph(*case.inputs))


@pytest.mark.parametrize("examples", [torch.zeros(2, 4), [torch.zeros(2, 4)], None])
def test_example_inputs_are_a_tuple_or_a_dict(examples):
    with pytest.raises(CaptureError, match="give a tuple, such as"):
        capture(nn.Linear(4, 4), examples)
