"""Pass: a product with a transposed parameter becomes a linear layer, whose weight is the parameter."""

import torch
from torch.fx import GraphModule, Node

from quire.graph.rewrite import find, insert, replace

aten = torch.ops.aten


def restore_linear(graph: GraphModule) -> None:
    """Replace `x @ weight.T` by `linear(x, weight)`: a tied weight then is one tensor, stored once."""
    for product in find(graph, aten.matmul.default, aten.mm.default):
        x, transposed = product.args
        weight = _transposed_parameter(transposed)
        if weight is not None:
            with graph.graph.inserting_before(product):
                replace(product, insert(graph.graph, product, aten.linear.default, x, weight))


def _transposed_parameter(node: object) -> Node | None:
    """The matrix held by the graph of which `node` is the transpose."""
    swaps = (aten.t.default, aten.transpose.int, aten.permute.default, aten.numpy_T.default)
    if not isinstance(node, Node) or node.target not in swaps:
        return None
    weight = node.args[0]
    is_matrix = isinstance(weight, Node) and weight.op == "get_attr" and weight.meta["val"].dim() == 2
    changes = node.meta["val"].shape[0] == weight.meta["val"].shape[1] if is_matrix else False
    return weight if is_matrix and changes else None
