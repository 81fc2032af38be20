"""Sites: readable stable names, the sixteen operands of a layer, shapes, work, axes and ties."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quire.graph import capture, sites

LAYER_OPERANDS = [
    "attn.q.input",
    "attn.q.weight",
    "attn.k.input",
    "attn.k.weight",
    "attn.v.input",
    "attn.v.weight",
    "attn.qk.query",
    "attn.qk.key",
    "attn.pv.probs",
    "attn.pv.value",
    "attn.out.input",
    "attn.out.weight",
    "fc1.input",
    "fc1.weight",
    "fc2.input",
    "fc2.weight",
]


def operands(graph) -> list[str]:
    return [site.name for site in sites(graph).values() if site.is_operand]


def test_every_product_has_two_operand_sites(case):
    assert len(operands(case.graph)) == case.operands


@pytest.mark.parametrize("name", ["layer", "fused layer"])
def test_the_sixteen_operands_of_a_layer(read, name):
    case = read(name)
    assert operands(case.graph) == LAYER_OPERANDS


def test_the_operands_of_a_bert_layer(read):
    case = read("bert")
    prefix = "bert.encoder.layer.1."
    found = operands(case.graph)
    assert [name.removeprefix(prefix) for name in found if name.startswith(prefix)] == [
        "attention.self.query.input",
        "attention.self.query.weight",
        "attention.self.key.input",
        "attention.self.key.weight",
        "attention.self.value.input",
        "attention.self.value.weight",
        "attention.self.qk.query",
        "attention.self.qk.key",
        "attention.self.pv.probs",
        "attention.self.pv.value",
        "attention.output.dense.input",
        "attention.output.dense.weight",
        "intermediate.dense.input",
        "intermediate.dense.weight",
        "output.dense.input",
        "output.dense.weight",
    ]


def test_sites_are_equal_across_captures_and_batches(case):
    inputs = case.inputs
    one = {k: v[:1] for k, v in inputs.items()} if isinstance(inputs, dict) else (inputs[0][:1],)
    assert sites(case.graph) == sites(capture(case.model, one))


def test_what_is_no_operand_is_a_site_too(read):
    case = read("layer")
    found = sites(case.graph)
    others = {name: site.role for name, site in found.items() if not site.is_operand}
    assert others == {
        "input.x": "input",
        **{f"norm1.{part}": "norm" for part in ("input", "weight", "bias", "output")},
        **{f"attn.{layer}.bias": "bias" for layer in "qkv"},
        "attn.scale.input": "activation",
        "attn.scale.constant": "constant",
        "attn.softmax.input": "softmax",
        "attn.softmax.table": "table",
        "attn.softmax.output": "softmax",
        "attn.out.bias": "bias",
        "add.input": "residual",
        "add.other": "residual",
        **{f"norm2.{part}": "norm" for part in ("input", "weight", "bias", "output")},
        "fc1.bias": "bias",
        "gelu.input": "unary",
        "gelu.output": "unary",
        "fc2.bias": "bias",
        "add_1.input": "residual",
        "add_1.other": "residual",
        "output.0": "output",
    }


def test_shapes_work_and_axes(read):
    case = read("layer")
    found = sites(case.graph)
    expected = {
        "attn.qk.query": ((1, 4, 16, 8), 4 * 16 * 16 * 8, -1),
        "attn.qk.key": ((1, 4, 8, 16), 4 * 16 * 16 * 8, -2),
        "attn.pv.probs": ((1, 4, 16, 16), 4 * 16 * 16 * 8, -1),
        "attn.pv.value": ((1, 4, 16, 8), 4 * 16 * 16 * 8, -2),
        "fc1.input": ((1, 16, 32), 16 * 32 * 64, -1),
        "fc1.weight": ((64, 32), 16 * 32 * 64, 1),
        "attn.scale.constant": ((), 0, -1),
    }
    assert {n: (found[n].shape, found[n].macs, found[n].axis) for n in expected} == expected


def test_convolution_axes_cover_the_window(read):
    case = read("cnn")
    found = sites(case.graph)
    assert found["conv2.weight"].axis == (1, 2, 3)
    assert found["conv2.input"].axis == (-3, -2, -1)
    assert found["conv2.weight"].elements == 12 * 4 * 9
    assert found["conv2.weight"].macs == 12 * 4 * 4 * 4 * 9
    assert found["conv1.bias"].role == "bias"  # folding the batch norm gives it one


def test_a_weight_stored_as_in_by_out_reduces_its_first_axis(read):
    case = read("gpt2")
    weight = sites(case.graph)["transformer.h.0.attn.c_attn.weight"]
    assert (weight.shape, weight.axis, weight.macs) == ((32, 96), 0, 16 * 32 * 96)


def test_query_key_and_value_share_their_input(read):
    case = read("layer")
    found = sites(case.graph)
    assert {found[f"attn.{layer}.input"].tie for layer in "qkv"} == {"attn.q.input"}
    assert found["attn.q.weight"].tie == "attn.q.weight"


def test_a_tied_table_is_one_group_of_operands(read):
    case = read("gpt2")
    found = sites(case.graph)
    table, head = found["transformer.wte.weight"], found["lm_head.weight"]
    assert table.tie == head.tie == "transformer.wte.weight"
    assert table.is_operand
    assert not found["transformer.wpe.weight"].is_operand


def test_second_calls_and_anonymous_ops():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.weight = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: Tensor, mask: Tensor) -> dict[str, Tensor]:
            y = self.fc(F.relu(self.fc(x)))
            return {"y": y @ self.weight, "z": (y @ y.transpose(1, 2)).masked_fill(mask, 0.0)}

    mask = torch.ones(2, 3, 3, dtype=torch.bool)
    found = sites(capture(Model(), (torch.randn(2, 3, 4), mask)))
    assert list(found) == [
        "input.x",
        "fc.input",
        "fc.weight",
        "fc.bias",
        "relu.input",
        "relu.output",
        "fc#2.input",
        "fc#2.weight",
        "fc#2.bias",
        "matmul.input",
        "matmul.weight",
        "matmul_1.input",
        "matmul_1.other",
        "output.y",
        "output.z",
    ]
    assert found["fc#2.weight"].tie == "fc.weight"
    assert found["matmul.weight"].role == "weight"


def test_positions_and_masks_are_no_sites(read):
    """The rotary angles of LLaMA are a product of constants: nothing to choose there."""
    case = read("llama")
    names = list(sites(case.graph))
    assert not [name for name in names if name.startswith("model.rotary_emb")]
    assert "model.layers.0.self_attn.mask.input" not in names


def test_node_and_argument_say_where_a_cast_goes(case):
    graph = case.graph
    nodes = {node.name: node for node in graph.graph.nodes}
    for site in sites(graph).values():
        node = nodes[site.node]
        if site.arg is None:
            continue
        arguments = node.args[0] if node.op == "output" else node.args
        value = arguments[site.arg]
        assert isinstance(value, float | int if site.role == "constant" else torch.fx.Node)
