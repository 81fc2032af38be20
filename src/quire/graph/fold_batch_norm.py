"""Pass: fold each batch norm into the product before it, inside the graph, so that a cast of the
weight sees the folded weight while gamma and beta stay trainable."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from quire.graph.rewrite import find, insert, replace
from quire.ops.convolution import CONVOLUTION
from quire.ops.fold import folded_bias, folded_weight

aten = torch.ops.aten


def fold_batch_norm(graph: GraphModule) -> None:
    """Fold batch norms with fixed statistics; one that follows no product stays an op."""
    for norm in find(graph, aten._native_batch_norm_legit_no_training.default):
        (result,) = norm.users
        assert result.target is operator.getitem
        with graph.graph.inserting_before(norm):
            product = norm.args[0]
            replacement = (
                _folded(graph, norm) if _is_foldable(product) else _whole(graph, norm, result)
            )
        replace(result, replacement)
        graph.graph.erase_node(norm)


def _is_foldable(product: Any) -> bool:
    if len(product.users) != 1:
        return False
    is_flat_linear = product.target is aten.linear.default and product.meta["val"].dim() == 2
    return is_flat_linear or product.target in CONVOLUTION.targets


def _folded(graph: GraphModule, norm: Node) -> Node:
    product, gamma, beta, mean, variance, _, epsilon = norm.args
    assert isinstance(product, Node)
    x, weight, bias, *options = (*product.args, None)[: max(3, len(product.args))]
    new_weight = insert(graph.graph, product, folded_weight, weight, gamma, variance, epsilon)
    new_bias = insert(graph.graph, product, folded_bias, bias, gamma, beta, mean, variance, epsilon)
    assert callable(product.target)
    return insert(graph.graph, product, product.target, x, new_weight, new_bias, *options)


def _whole(graph: GraphModule, norm: Node, result: Node) -> Node:
    """The batch norm as one op with one result."""
    *tensors, momentum, epsilon = norm.args
    return insert(
        graph.graph, result, aten.batch_norm.default, *tensors, False, momentum, epsilon, False
    )
