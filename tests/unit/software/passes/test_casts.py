"""Casts that change nothing are dropped, and only those."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import quire
from quire.precision.cast import cast
from quire.software.passes.drop_casts import DROP_CASTS


class Casts(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.tensor(1.5, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x * self.scale)


def graph_of(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> torch.fx.GraphModule:
    """A captured graph in which `cast` stays one call, as `quantize` puts it."""
    graph = quire.capture(Casts(lambda x: x + 0, dtype), (examples(dtype),))
    (root,) = graph.graph.find_nodes(op="call_function", target=torch.ops.aten.add.Tensor)
    traced = torch.fx.symbolic_trace(Casts(function, dtype), concrete_args=None)
    values = {}
    with graph.graph.inserting_before(root):
        for node in traced.graph.nodes:
            if node.target is cast or node.op == "call_method":
                source = values.get(node.args[0], root.args[0])
                args = (source, *node.args[1:])
                target = cast if node.target is cast else torch.ops.aten.transpose.int
                values[node] = graph.graph.call_function(target, args, dict(node.kwargs))
                values[node].meta["val"] = root.meta["val"]
    root.args = (list(values.values())[-1], 0)
    graph.recompile()
    return graph


def examples(dtype: torch.dtype) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(64, 64).to(dtype)


def casts(graph: torch.fx.GraphModule) -> list[str]:
    return [str(n.args[1]) for n in graph.graph.find_nodes(op="call_function", target=cast)]


torch.fx.wrap("cast")
CASES: list[tuple[str, Callable[[Tensor], Tensor], list[str], str | None]] = [
    ("twice", lambda x: cast(cast(x, "mxint8"), "mxint8"), ["mxint8"], None),
    ("thrice", lambda x: cast(cast(cast(x, "bfp(4)"), "bfp(4)"), "bfp(4)"), ["bfp(4)"], None),
    ("scalar", lambda x: cast(cast(x, "fixed(8,4)"), "fixed(8,4)", 0), ["fixed(8,4)"], None),
    ("wider", lambda x: cast(cast(x, "fixed(4,2)"), "fixed(8,4)"), ["fixed(4,2)"], None),
    ("moved", lambda x: cast(cast(x, "log(4)").transpose(0, 1), "log(4)"), ["log(4)"], None),
    ("fp32", lambda x: cast(x, "fp32"), [], None),
    ("narrower", lambda x: cast(cast(x, "fixed(8,4)"), "fixed(4,2)"), ["fixed(8,4)", "fixed(4,2)"],
     "a value of fixed(8,4) along axis -1 is not one of fixed(4,2) along axis -1"),
    ("other axis", lambda x: cast(cast(x, "mxint4", 1), "mxint4", 0), ["mxint4", "mxint4"],
     "a value of mxint4 along axis 1 is not one of mxint4 along axis 0"),
    ("moved blocks", lambda x: cast(cast(x, "mxint4").transpose(0, 1), "mxint4"),
     ["mxint4", "mxint4"], "is not one of mxint4"),
    ("real scales", lambda x: cast(cast(x, "int4_g128"), "int4_g128"), ["int4_g128", "int4_g128"],
     "int4_g128 has scales that move when its values are cast again"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "left", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_a_cast_is_dropped_only_where_it_does_nothing(
    function: Callable[[Tensor], Tensor], left: list[str], reason: str | None
) -> None:
    graph, x = graph_of(function, torch.float32), examples(torch.float32)
    expected = graph(x)
    outcomes = DROP_CASTS.apply(graph)
    assert casts(graph) == left
    assert torch.equal(graph(x), expected)
    assert all(outcome.kept == (reason is None) for outcome in outcomes)
    assert reason is None or reason in outcomes[0].reason


def test_what_a_dtype_holds_needs_no_cast() -> None:
    for format, left in [("bf16", []), ("fp8_e4m3", ["fp8_e4m3"])]:
        graph = graph_of(lambda x, format=format: cast(x, format), torch.bfloat16)
        x = examples(torch.bfloat16)
        expected = graph(x)
        DROP_CASTS.apply(graph)
        assert casts(graph) == left
        assert torch.equal(graph(x), expected)
