"""`MXLinear`: a linear layer whose weight is held in codes and scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from quire.errors import FormatError, PlanError
from quire.precision.cast import StaticScale, cast
from quire.software.kernels import PLAIN, Weight, case_of, select_layout
from quire.software.mx import ops
from quire.software.mx.layout import format_of, row_blocks, row_bytes

TRANSPOSED = {"torch.nn.modules.linear.Linear": False, "transformers.pytorch_utils.Conv1D": True}
"""{class of a linear layer: whether its weight is (in_features, out_features)}."""


def is_linear(module: nn.Module) -> bool:
    """Whether a module is a linear layer of a known class (a subclass may compute otherwise)."""
    return class_name(module) in TRANSPOSED


def class_name(module: nn.Module) -> str:
    """The full name of a module's class."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def weight_of(linear: nn.Module) -> Tensor:
    """The weight of a linear layer as (out_features, in_features)."""
    weight: Tensor = linear.weight  # type: ignore[assignment]
    return weight.T if TRANSPOSED[class_name(linear)] else weight


class MXLinear(nn.Module):
    """`y = x W^T + b`, W being (out_features, in_features) in a block format with E8M0 scales.

    codes, scales: uint8 buffers, in the plain layout of `quire.software.mx.layout` in every state
        dict and pickle. On a device with a layout of its own they hold that instead, tiled for
        activations of `dtype`, and `row_scale` what the layout keeps besides; `.to()` changes them.
        A state dict names their format beside them, as torch's extra state: the ASCII codes of
        its text. Codes of another format are refused, since those of one size look alike.
    bias: a parameter of shape (out_features,), or None.
    input_format, input_scale: a cast of the input before the product (`quire.cast` along the last
        axis), or None.
    dtype: of the activations that are expected; others work, by way of the plain layout.
    layout: the name of the layout that the buffers are in.
    """

    codes: Tensor
    scales: Tensor
    row_scale: Tensor | None
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        format: str,
        bias: bool = True,
        *,
        input_format: str | None = None,
        input_scale: StaticScale = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """A layer whose weight is zero; `from_linear` makes one of a trained layer.

        Raises `FormatError` for a format without the plain layout.
        """
        super().__init__()
        fmt = format_of(format)
        self.in_features, self.out_features, self.format = in_features, out_features, format
        self.input_format, self.input_scale = input_format, input_scale
        self.dtype, self.layout = dtype or torch.get_default_dtype(), PLAIN
        sizes = {"codes": row_bytes(fmt, in_features), "scales": row_blocks(fmt, in_features)}
        for name, size in sizes.items():
            zeros = torch.zeros((out_features, size), dtype=torch.uint8, device=device)
            self.register_buffer(name, zeros)
        self.register_buffer("row_scale", None, persistent=False)
        values = torch.zeros(out_features, device=device, dtype=self.dtype) if bias else None
        self.register_parameter("bias", None if values is None else nn.Parameter(values))
        self.tile()

    @staticmethod
    def from_linear(
        linear: nn.Module,
        format: str,
        *,
        input_format: str | None = None,
        input_scale: StaticScale = None,
    ) -> MXLinear:
        """The layer with the weight of a linear layer, rounded, and its own bias (not a copy).

        linear: an `nn.Linear`, or a `Conv1D` of transformers, whose weight is (in, out).
        Raises `PlanError` for another module.
        """
        layer = MXLinear.like(linear, format, input_format=input_format, input_scale=input_scale)
        return layer.set_weight(*ops.mx_quantize(weight_of(linear).detach(), format)).tile()

    @staticmethod
    def like(linear: nn.Module, format: str, **options: Any) -> MXLinear:
        """The layer for a linear layer with its bias (not a copy), and no weight: codes on "meta".

        options: `input_format` and `input_scale`. Raises `PlanError` for another module.
        """
        if not is_linear(linear):
            raise PlanError(
                f"{class_name(linear)} is no linear layer that can be swapped; those are"
                f" {', '.join(TRANSPOSED)}"
            )
        n, k = weight_of(linear).shape
        dtype = weight_of(linear).dtype
        layer = MXLinear(k, n, format, bias=False, device="meta", dtype=dtype, **options)
        layer.bias = linear.bias  # type: ignore[assignment]
        return layer.train(linear.training)

    def set_weight(self, codes: Tensor, scales: Tensor) -> MXLinear:
        """Take a weight in the plain layout, on whichever device it is; returns self."""
        self._set(Weight(codes, scales), PLAIN)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in_features) to (..., out_features); `FormatError` for another width."""
        if x.shape[-1:] != (self.in_features,):
            raise FormatError(
                f"a layer {self.in_features} -> {self.out_features} takes (...,"
                f" {self.in_features}), not {tuple(x.shape)}"
            )
        if self.input_format is not None:
            x = cast(x, self.input_format, -1, self.input_scale)
        if self.layout == PLAIN or x.dtype != self.dtype:
            codes, scales, _ = self.plain()
            return ops.mx_linear(x, codes, scales, self.bias, self.format)
        return ops.mx_linear_tiled(
            x,
            self.codes,
            self.scales,
            self.row_scale,
            self.bias,
            self.format,
            self.layout,
            self.out_features,
        )

    @property
    def weight(self) -> Tensor:
        """The values of the weight in `dtype`, computed anew; code that asks for its dtype runs."""
        codes, scales, _ = self.plain()
        return ops.mx_dequantize(codes, scales, self.format, self.in_features, self.dtype)

    def plain(self) -> Weight:
        """The weight in the plain layout."""
        held = Weight(self.codes, self.scales, self.row_scale)
        if self.layout == PLAIN:
            return held
        sizes = (self.out_features, self.in_features)
        return ops.plain(held, self.layout, format_of(self.format), *sizes, self.dtype)

    def tile(self) -> MXLinear:
        """Hold the weight in the layout of its device, where there is one; returns self."""
        fmt = format_of(self.format)
        sizes = (1, self.out_features, self.in_features)
        layout = select_layout(case_of(self.codes.device, fmt, *sizes, self.dtype))
        if self.layout == PLAIN and layout:
            tiled = layout.tile(self.plain(), fmt, self.in_features, self.dtype)
            if tiled is not None:
                self._set(tiled, layout.name)
        return self

    def untile(self) -> MXLinear:
        """Hold the weight in the plain layout; returns self."""
        self._set(self.plain(), PLAIN)
        return self

    def _set(self, weight: Weight, layout: str) -> None:
        self.codes, self.scales, self.row_scale = weight
        self.layout = layout

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MXLinear:
        dtype = fn(torch.empty(0, dtype=self.dtype, device=self.codes.device)).dtype
        self.untile()
        super()._apply(fn, recurse)
        self.dtype = dtype
        return self.tile()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        codes, scales, _ = self.plain()
        destination |= {f"{prefix}codes": codes, f"{prefix}scales": scales}

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        extra = f"{prefix}_extra_state"
        if extra in state_dict:  # torch would look at it after it has copied the codes
            self.set_extra_state(state_dict[extra])
        self.untile()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.tile()

    def get_extra_state(self) -> Tensor:
        """The format of the codes for a state dict: uint8, the ASCII codes of its text."""
        return torch.tensor(list(str(format_of(self.format)).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Check the format of a state dict's codes; `PlanError` where it is not this layer's."""
        held = torch.as_tensor(state).to("cpu", torch.uint8)
        if torch.equal(held, self.get_extra_state()):
            return
        found = bytes(held.flatten().tolist()).decode("ascii", "replace")
        raise PlanError(
            f"the state dict holds codes of {found!r}, and the layer {self.in_features} ->"
            f" {self.out_features} is {self.format}; apply the plan that the state dict was saved"
            " with to the model before you load it"
        )

    def __getstate__(self) -> dict[str, Any]:
        codes, scales, _ = self.plain()
        held = {**self._buffers, "codes": codes, "scales": scales, "row_scale": None}
        return {**self.__dict__, "layout": PLAIN, "_buffers": held}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.tile()

    def extra_repr(self) -> str:
        rounded = f", input_format={self.input_format}" if self.input_format else ""
        return (
            f"in_features={self.in_features}, out_features={self.out_features},"
            f" format={self.format}, bias={self.bias is not None}{rounded}"
        )
