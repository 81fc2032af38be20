"""Checkpoints: a quantized graph in one file, as packed codes, scales and its plan.

The file holds `<name>.codes`, `<name>.scales` and so on (`rows`) for each tensor in codes, and
every other parameter and buffer that the graph reads under its own name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from quire.errors import CaptureError, CheckpointError, PlanError
from quire.graph import capture
from quire.graph.rewrite import attribute
from quire.graph.sites import check_captured
from quire.precision.cast import Axis, cast
from quire.precision.constants import evaluate
from quire.precision.container import TensorSpec, read, write
from quire.precision.copying import replace_tensor
from quire.precision.entry import Entry
from quire.precision.inputs import input_specs, make_examples
from quire.precision.plan import Plan
from quire.precision.quantize import quantize
from quire.precision.rows import from_rows, layout, to_rows
from quire.precision.stored import Contents, Use, code_tensors, contents, uses

Examples = tuple[Any, ...] | Mapping[str, Any]


def save(q: GraphModule, path: str | os.PathLike[str]) -> None:
    """Write a quantized graph to a safetensors file, at once or not at all.

    A parameter whose every use passes a cast is written as that cast's codes, packed to bits, with
    rows on whole bytes, and the rest as it is; a tied tensor is written once. Raises
    `CheckpointError` for a graph that `quantize` did not give, and for one that `load` gave, and
    `CaptureError` for a module that is no captured graph.
    """
    check_captured(q)
    if "quire_loaded" in q.meta:
        raise CheckpointError(
            f"save: this graph was loaded from {q.meta['quire_loaded']} and holds decoded values: "
            "copy that file, or save a graph that quantize() made"
        )
    if "quire_plan" not in q.meta:
        raise CheckpointError("save: this graph has no plan; give one that quantize() made")
    held = _contents(q)
    _specs(q, held)
    tensors: dict[str, Tensor] = {}
    for use, *_ in held.coded.values():
        entry, axis = _coding(use)
        rows = to_rows(entry.format, evaluate(q, use.source), axis, entry.scale)
        tensors |= {f"{use.name}.{part}": tensor for part, tensor in rows.items()}
    for name in held.plain:
        values: Tensor = attribute(q, name).detach().cpu()
        tensors[name] = values.clone(memory_format=torch.contiguous_format)
    write(Path(path), tensors, q.meta["quire_plan"].to_json(), input_specs(q))


def load(
    model: nn.Module, path: str | os.PathLike[str], example_inputs: Examples | None = None
) -> GraphModule:
    """The quantized graph that `save` was given, with the tensors of the file, bit for bit.

    model: of the class and configuration that was saved; it is captured again and not changed.
    example_inputs: for models whose capture depends on more than the shapes of their inputs, and
        for inputs that hold other than tensors, numbers, strings, tuples, lists and dicts.

    Tensors in codes come back as decoded values, which do not train, in the place of their casts.
    Raises `CheckpointError` that names the file, and the tensor that is damaged or does not fit.
    """
    tensors, record = read(Path(path))
    inputs = record["inputs"]
    examples = make_examples(inputs) if example_inputs is None else example_inputs
    mismatch = f"{path} does not fit this {type(model).__name__}"
    try:
        graph = capture(model, examples, dynamic_batch=inputs["dynamic_batch"])
        q = quantize(graph, Plan.from_json(record["plan"], graph))
    except (CaptureError, PlanError) as error:
        raise CheckpointError(f"{mismatch}: {error}") from None
    held = _contents(q)
    _check_specs(mismatch, _specs(q, held), tensors)
    for name in held.plain:
        _put(q, name, tensors[name], trains=True)
    for group in held.coded.values():
        _replace_casts(q, group, tensors)
    q.graph.eliminate_dead_code()
    q.recompile()
    q.meta["quire_loaded"] = str(path)
    return q


def _contents(q: GraphModule) -> Contents:
    casts = q.graph.find_nodes(op="call_function", target=cast)
    groups = {(node.name, 0): str(node.meta["quire_group"]) for node in casts}
    return contents(uses(q, groups), set(groups.values()))


def _coding(use: Use) -> tuple[Entry, Axis]:
    """The entry of a tensor in codes, and the axis along which its rows run."""
    return use.user.meta["quire_entry"], use.user.meta["quire_axis"]


def _specs(q: GraphModule, held: Contents) -> dict[str, TensorSpec]:
    """The tensors that the file of a graph has; raises where two of them have one name."""
    coded = [code_tensors(use, *_coding(use)) for use, *_ in held.coded.values()]
    plain = {name: TensorSpec.of(attribute(q, name)) for name in held.plain}
    found: dict[str, TensorSpec] = {}
    for name, spec in [pair for specs in (*coded, plain) for pair in specs.items()]:
        if name in found:
            raise CheckpointError(f"save: two tensors have the name {name}: rename a parameter")
        found[name] = spec
    return found


def _check_specs(
    mismatch: str, expected: Mapping[str, TensorSpec], tensors: Mapping[str, Tensor]
) -> None:
    for name in sorted(expected.keys() | tensors.keys()):
        here = expected.get(name)
        there = TensorSpec.of(tensors[name]) if name in tensors else None
        if here != there:
            raise CheckpointError(
                f"{mismatch}: {name} is {here or 'unknown'} in the model, and "
                f"{there or 'missing'} in the file"
            )


def _replace_casts(q: GraphModule, group: Sequence[Use], tensors: Mapping[str, Tensor]) -> None:
    """Put the decoded value of a tensor in the place of its casts."""
    use = group[0]
    entry, axis = _coding(use)
    names = layout(entry.format, use.shape, axis)
    parts = {part: tensors[f"{use.name}.{part}"] for part in names}
    value = from_rows(entry.format, parts, use.shape, axis, use.source.meta["val"].dtype)
    target = _hold(q, use, value)
    for user in [use.user for use in group]:
        with q.graph.inserting_before(user):
            held = q.graph.get_attr(target)
        held.meta = dict(user.meta)
        user.replace_all_uses_with(held)
        q.graph.erase_node(user)


def _hold(q: GraphModule, use: Use, value: Tensor) -> str:
    """Make a decoded value an attribute: in the place of the parameter, or as a buffer of the root
    if it was computed from several."""
    if use.source.op == "get_attr":
        name = str(use.source.target)
        _put(q, name, value, trains=False)
        return name
    name = f"{use.user.name}_decoded"
    device = attribute(q, min(use.parameters)).device
    q.register_buffer(name, value.to(device), persistent=False)
    return name


def _put(q: GraphModule, name: str, value: Tensor, *, trains: bool) -> None:
    """Put a value in the place of a parameter or buffer of the graph."""
    old = attribute(q, name)
    value = value.to(old.device)
    if isinstance(old, nn.Parameter):
        value = nn.Parameter(value, old.requires_grad and trains)
    replace_tensor(q, old, value)
