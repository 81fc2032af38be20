"""Ops that only move, copy, join or create values: the table of their aten overloads."""

import operator

import torch

from quire.ops.base import Op, register

aten = torch.ops.aten

MOVEMENT = register(
    Op(
        name="movement",
        targets=(
            operator.getitem,
            aten._reshape_alias.default,
            aten._to_copy.default,
            aten._unsafe_view.default,
            aten.alias.default,
            aten.as_strided.default,
            aten.cat.default,
            aten.chunk.default,
            aten.clone.default,
            aten.constant_pad_nd.default,
            aten.contiguous.default,
            aten.detach.default,
            aten.expand.default,
            aten.flatten.using_ints,
            aten.flip.default,
            aten.gather.default,
            aten.index.Tensor,
            aten.index_select.default,
            aten.lift_fresh_copy.default,
            aten.movedim.int,
            aten.narrow.default,
            aten.permute.default,
            aten.pixel_shuffle.default,
            aten.pixel_unshuffle.default,
            aten.repeat.default,
            aten.repeat_interleave.self_int,
            aten.reshape.default,
            aten.roll.default,
            aten.select.int,
            aten.slice.Tensor,
            aten.split.Tensor,
            aten.split_with_sizes.default,
            aten.squeeze.default,
            aten.squeeze.dim,
            aten.squeeze.dims,
            aten.stack.default,
            aten.t.default,
            aten.to.dtype,
            aten.to.dtype_layout,
            aten.transpose.int,
            aten.tril.default,
            aten.triu.default,
            aten.unbind.int,
            aten.unflatten.int,
            aten.unfold.default,
            aten.unsqueeze.default,
            aten.view.default,
        ),
    )
)
CREATION = register(
    Op(
        name="creation",
        targets=(
            aten.arange.default,
            aten.arange.start,
            aten.arange.start_step,
            aten.empty_like.default,
            aten.full.default,
            aten.full_like.default,
            aten.new_full.default,
            aten.new_ones.default,
            aten.new_zeros.default,
            aten.ones.default,
            aten.ones_like.default,
            aten.scalar_tensor.default,
            aten.zeros.default,
            aten.zeros_like.default,
        ),
    )
)
