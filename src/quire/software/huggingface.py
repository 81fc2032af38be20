"""The plug-in for Hugging Face transformers: importing this module registers the method "quire".

model = AutoModelForCausalLM.from_pretrained(path, quantization_config=QuireConfig("mxint8"))
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableSet
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from quire.errors import PlanError
from quire.precision import Plan
from quire.precision.plan import read_entries
from quire.software.applied import Applied, Swap
from quire.software.apply import add_cast, input_options, round_parameter, swapped
from quire.software.assignment import assign
from quire.software.mx.layout import format_of, row_blocks, row_bytes
from quire.software.mx.linear import TRANSPOSED, MXLinear, class_name
from quire.software.mx.ops import mx_quantize
from quire.software.plans import PlanLike, check_plan, entries_of, one_format

METHOD = "quire"
logger = logging.getLogger(__name__)


@register_quantization_config(METHOD)
class QuireConfig(QuantizationConfigMixin):
    """The plan with which `from_pretrained` loads a model; it is saved in the model's config.

    plan: as `quire.apply` takes it: a `Plan`, a mapping {site or pattern: format}, the path of a
        plan's file, or one format for the weights of all linear layers.
    """

    def __init__(self, plan: PlanLike | Mapping[str, Any] = "mxint8", **_: Any) -> None:
        self.quant_method: Any = METHOD
        self.plan = _as_json(plan)

    def to_plan(self) -> Plan | str:
        """The plan, or one format as a string."""
        if isinstance(self.plan, str):
            return self.plan
        data = {**self.plan, "entries": dict(self.plan["entries"])}
        return Plan(read_entries(data, "quantization_config"))


def _as_json(plan: PlanLike | Mapping[str, Any]) -> str | dict[str, Any]:
    """A format string, or the JSON of a plan with its entries as pairs.

    Of several patterns the last one counts, and transformers sorts what is an object.
    """
    check_plan(plan)
    if one_format(plan) is not None:
        return str(plan)
    if not isinstance(plan, Mapping):
        return _as_json(Plan(entries_of(plan)))
    data: dict[str, Any] = dict(plan) if "entries" in plan else Plan(plan).to_json()
    entries = data["entries"]
    return {**data, "entries": [list(pair) for pair in dict(entries).items()]}


@register_quantizer(METHOD)
class QuireQuantizer(HfQuantizer):
    """Loads weights into `MXLinear` as they are read, and does the rest of a plan afterwards.

    applied: what the plan does to the model, known from `preprocess_model` on.
    """

    applied: Applied

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        tied: dict[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
        config: Any = self.quantization_config
        self.applied = assign(model, config.to_plan(), tied=tied)
        if self.pre_quantized:
            for path, swap in self.applied.swapped.items():
                model.set_submodule(path, _empty(model.get_submodule(path), swap))

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **_: Any) -> bool:
        path, name = param_name.rpartition(".")[::2]
        return not self.pre_quantized and name == "weight" and path in self.applied.swapped

    def param_element_size(self, model: PreTrainedModel, param_name: str, param: Tensor) -> float:
        """Bytes of an element once it is loaded, for the plan of the devices' memory."""
        if not self.param_needs_quantization(model, param_name):
            return param.element_size()
        swap = self.applied.swapped[param_name.rpartition(".")[0]]
        fmt, k = format_of(swap.weight.text), param.shape[-1]
        return (row_bytes(fmt, k) + row_blocks(fmt, k)) / k

    def get_quantize_ops(self) -> ConversionOps:
        return _Quantize(self.applied)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> Any:
        for path, swap in self.applied.swapped.items():
            module = model.get_submodule(path)
            if not isinstance(module, MXLinear):  # its weight was not in the files
                model.set_submodule(path, swapped(module, swap))
        if not self.pre_quantized:  # what a file holds is rounded already
            for name, rounding in self.applied.rounded.items():
                round_parameter(model.get_parameter(name), rounding)
        for path, entry in self.applied.cast.items():
            add_cast(model.get_submodule(path), entry)
        for module in model.modules():
            if isinstance(module, MXLinear):
                module.tile()
        level = logging.WARNING if self.applied.rounded or self.applied.left else logging.INFO
        logger.log(level, "%s", self.applied)

    def is_serializable(self, *_: Any, **__: Any) -> Any:
        return True

    @property
    def is_trainable(self) -> Any:
        return False

    @property
    def is_compileable(self) -> bool:
        return True

    def _dequantize(self, model: PreTrainedModel, dtype: torch.dtype | None = None) -> Any:
        for path in self.applied.swapped:
            model.set_submodule(path, _linear(model.get_submodule(path), dtype))
        return model


class _Quantize(ConversionOps):
    """Puts an `MXLinear` in the place of a linear layer when its weight is read."""

    def __init__(self, applied: Applied) -> None:
        self._applied = applied

    def convert(
        self,
        input_dict: dict[str, Any],
        *_: Any,
        full_layer_name: str,
        model: nn.Module,
        missing_keys: MutableSet[str] | None = None,
        **__: Any,
    ) -> dict[str, Any]:
        (value,) = input_dict.values()
        weight: Tensor = value[0] if isinstance(value, list) else value
        path = full_layer_name.rpartition(".")[0]
        linear, swap = model.get_submodule(path), self._applied.swapped[path]
        weight = weight.T if TRANSPOSED[class_name(linear)] else weight
        layer = _empty(linear, swap)
        if weight.shape != (layer.out_features, layer.in_features):
            raise PlanError(
                f"{full_layer_name} is {tuple(weight.shape)} in the files, and the model has"
                f" {(layer.out_features, layer.in_features)}"
            )
        layer.set_weight(*mx_quantize(weight.to(layer.dtype), swap.weight.text))
        model.set_submodule(path, layer)
        (missing_keys or set()).discard(full_layer_name)
        return {}


def _empty(linear: nn.Module, swap: Swap) -> MXLinear:
    """The `MXLinear` of a linear layer, without its weight."""
    return MXLinear.like(linear, swap.weight.text, **input_options(swap))


def _linear(layer: nn.Module, dtype: torch.dtype | None) -> nn.Linear:
    """A linear layer with the values of an `MXLinear`."""
    assert isinstance(layer, MXLinear)
    sizes = layer.in_features, layer.out_features
    linear = nn.Linear(*sizes, bias=layer.bias is not None, device="meta", dtype=dtype)
    linear.weight = nn.Parameter(layer.weight.to(dtype))
    linear.bias = layer.bias  # type: ignore[assignment]
    return linear
