"""Pass: open `scaled_dot_product_attention` into two products, so that each operand is a site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from quire.graph.restore_dropout import insert_dropout
from quire.graph.rewrite import arguments, find, insert, replace
from quire.ops.mask import causal_mask

aten = torch.ops.aten


def open_attention(graph: GraphModule) -> None:
    """Replace each fused attention by product, scale, mask, safe softmax and product."""
    for node in find(graph, aten.scaled_dot_product_attention.default):
        with graph.graph.inserting_before(node):
            options: dict[str, Any] = dict(node.kwargs)
            replace(node, _open(graph, node, *arguments(node), **options))


def _open(
    graph: GraphModule,
    fused: Node,
    query: Node,
    key: Node,
    value: Node,
    attn_mask: Node | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Node:
    def emit(target: Callable[..., Any], *args: object) -> Node:
        return insert(graph.graph, fused, target, *args)

    if enable_gqa:
        repeats = query.meta["val"].shape[-3] // key.meta["val"].shape[-3]
        key = emit(aten.repeat_interleave.self_int, key, repeats, -3)
        value = emit(aten.repeat_interleave.self_int, value, repeats, -3)
    scores = emit(aten.matmul.default, query, emit(aten.transpose.int, key, -2, -1))
    factor = query.meta["val"].shape[-1] ** -0.5 if scale is None else scale
    scores = emit(aten.mul.Tensor, scores, factor)
    if is_causal:
        scores = insert(graph.graph, fused, causal_mask, scores)
    if attn_mask is not None:
        scores = _masked(graph, fused, scores, attn_mask)
    probabilities = emit(aten._safe_softmax.default, scores, -1)
    if dropout_p:
        probabilities = insert_dropout(graph, fused, probabilities, dropout_p)
    return emit(aten.matmul.default, probabilities, value)


def _masked(graph: GraphModule, fused: Node, scores: Node, mask: Node) -> Node:
    """A boolean mask is true where a key is visible; another one is added."""
    if mask.meta["val"].dtype == torch.bool:
        return insert(graph.graph, fused, aten.where.ScalarOther, mask, scores, float("-inf"))
    return insert(graph.graph, fused, aten.add.Tensor, scores, mask)
