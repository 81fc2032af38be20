"""Capture: from a PyTorch module to a typed FX graph. The only importer of `torch.export`."""

from __future__ import annotations

import inspect
import io
import logging
import os
import re
import traceback
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from quire.errors import CaptureError, FixedBatchError
from quire.graph.annotate import annotate
from quire.graph.drop_assertions import drop_assertions
from quire.graph.fold_batch_norm import fold_batch_norm
from quire.graph.fuse_gelu import fuse_gelu
from quire.graph.fuse_rms_norm import fuse_rms_norm
from quire.graph.name_attention import name_attention
from quire.graph.open_attention import open_attention
from quire.graph.restore_dropout import mark_dropout, restore_dropout
from quire.graph.restore_linear import restore_linear
from quire.graph.restore_reshape import restore_reshape
from quire.graph.verify import verify

PASSES: tuple[Callable[[GraphModule], None], ...] = (
    drop_assertions,
    restore_reshape,
    restore_dropout,
    restore_linear,
    open_attention,
    fold_batch_norm,
    fuse_gelu,
    fuse_rms_norm,
    name_attention,
)

Examples = tuple[Any, ...] | Mapping[str, Any]


@dataclass(frozen=True)
class CaptureInfo:
    """What capture found out about a model, in `graph.meta["quire"]`.

    unknown_ops: "module path: target" of each op that Quire does not know; it runs in fp32.
    dynamic_batch: whether the graph takes any batch size. Otherwise its inputs are one example.
    """

    unknown_ops: tuple[str, ...]
    dynamic_batch: bool


def capture(
    model: nn.Module, example_inputs: Examples, *, dynamic_batch: bool = True
) -> GraphModule:
    """The graph of `model`, each tensor typed, for `sites`, `quantize` and every later stage.

    model: any module that `torch.export` takes, on any device, in fp32, bf16 or fp16.
    example_inputs: a tuple of arguments or a dict of keyword arguments. What is no tensor in them
        (None, a number, a string) is a constant of the graph, whatever a later call gives.
    dynamic_batch: every tensor whose first size is that of the first tensor has a batch there,
        which stays free. False fixes every size, for models that allow no other or take no batch;
        nothing then tells a batch from other axes, and all of the inputs count as one example in
        sites and costs: give a batch of one.

    The graph shares its parameters and buffers with `model`: training the graph trains the model,
    and its state dict has the keys of the model's. It runs on the device of the capture, where its
    constants lie. It is captured in evaluation mode; dropout modules and `dropout` calls follow
    `train()` and `eval()` of the graph, batch norm keeps its statistics, and a dropout rate that
    the model hands to a fused attention in training alone is not seen. What no pass rewrites
    computes what the model computes, bit for bit.

    Raises CaptureError for inputs that `forward` does not take, and, naming the line of the model,
    where control flow depends on data and where `model` cannot be exported or fixes its batch size.
    """
    check_examples(model, example_inputs)
    with _evaluating(model):
        program = _exported(model, example_inputs, dynamic_batch)
    graph = _graph_of(program, model)
    for run in PASSES:
        run(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    graph.train(model.training)
    graph.meta["quire"] = CaptureInfo(annotate(graph), dynamic_batch)
    verify(graph)
    return graph


def check_examples(model: object, example_inputs: object) -> None:
    """CaptureError unless `model` is a module whose `forward` takes the example inputs."""
    if not isinstance(model, nn.Module):
        raise CaptureError(f"capture takes an nn.Module, not a {type(model).__name__}")
    if not isinstance(example_inputs, tuple | Mapping):
        raise CaptureError(
            f"the example inputs of {type(model).__name__} are a {type(example_inputs).__name__}: "
            "give a tuple, such as (x,), or a dict of keyword arguments"
        )
    args, kwargs = as_call(cast("Examples", example_inputs))
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise CaptureError(
            f"the example inputs do not suit {type(model).__name__}.forward{signature}: {error}"
        ) from None
    shape = _first_shape(example_inputs)
    if 0 in shape[:1]:
        raise CaptureError(f"the first example input has the shape {shape}: give one with a value")


def as_call(example_inputs: Examples) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Example inputs as positional and keyword arguments."""
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    return example_inputs, {}


def _first_shape(example_inputs: object) -> tuple[int, ...]:
    """The shape of the first tensor that has axes; its first size is that of the batch."""
    leaves = pytree.tree_leaves(example_inputs)
    shapes = (tuple(x.shape) for x in leaves if isinstance(x, torch.Tensor))
    return next(filter(None, shapes), ())


def _exported(model: nn.Module, example_inputs: Examples, dynamic_batch: bool) -> ExportedProgram:
    """The functional program; composite ops that passes and sites know stay whole."""
    arguments, shapes = _dynamic(example_inputs) if dynamic_batch else (example_inputs, None)
    # export leaves marks on the tensors that it is given, which a later capture would read
    args, kwargs = as_call(pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, arguments))
    try:
        with _silence():
            shapes = _by_parameter(model, shapes)
            program = export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
            mark_dropout(program.graph_module)
            return program.run_decompositions(_decompositions())
    except Exception as error:
        raise _explained(model, _first_shape(example_inputs), error) from error


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """What export shall take apart besides mutation and views: `einsum`, into its products."""
    einsum = torch.ops.aten.einsum.default
    return {einsum: torch.export.default_decompositions()[einsum]}


def _graph_of(program: ExportedProgram, model: nn.Module) -> GraphModule:
    """A graph module that can train, whose state dict has the keys of the model's."""
    exported = program.module(check_guards=False)
    assert isinstance(exported, GraphModule)
    graph = GraphModule(exported, exported.graph, type(model).__name__)
    state = model.state_dict(keep_vars=True)
    for name, constant in list(graph.named_buffers(remove_duplicate=False)):
        if name not in state:  # GraphModule makes every buffer persistent
            _hold(graph, name, constant, persistent=False)
    for node in graph.graph.find_nodes(op="output"):
        node.meta["quire_outputs"] = _output_names(program)
    held = dict(graph.named_parameters(remove_duplicate=False))
    held |= dict(graph.named_buffers(remove_duplicate=False))
    for name, value in state.items():
        if name not in held and isinstance(value, torch.Tensor):
            _hold(graph, name, value, persistent=True)
    return graph


def _output_names(program: ExportedProgram) -> tuple[str, ...]:
    """For each result its key or position in what the model returns, joined by dots if nested."""
    spec = program.call_spec.out_spec
    assert spec is not None
    results = pytree.tree_unflatten(range(spec.num_leaves), spec)
    paths = [path for path, _ in pytree.tree_flatten_with_path(results)[0]]
    return tuple(".".join(str(_key(entry)) for entry in path) or "0" for path in paths)


def _key(entry: Any) -> object:
    """What an entry of a pytree path holds: a key, an index or the name of an attribute."""
    return next(getattr(entry, name) for name in ("key", "idx", "name") if hasattr(entry, name))


def _hold(graph: GraphModule, name: str, value: torch.Tensor, *, persistent: bool) -> None:
    """Make `value` an attribute of `graph` under the dotted `name`."""
    path, _, leaf = name.rpartition(".")
    if path and path not in dict(graph.named_modules()):
        graph.add_submodule(path, nn.Module())
    owner = graph.get_submodule(path)
    if isinstance(value, nn.Parameter):
        owner.register_parameter(leaf, value)
        return
    if hasattr(owner, leaf):
        delattr(owner, leaf)
    owner.register_buffer(leaf, value, persistent=persistent)


def _dynamic(example_inputs: Examples) -> tuple[Examples, Any]:
    """Inputs of at least two examples, since export fixes a size of one; and the sizes to free."""
    batch = next(iter(_first_shape(example_inputs)), None)

    def is_batched(x: object) -> bool:
        return isinstance(x, torch.Tensor) and x.dim() > 0 and x.shape[0] == batch

    def doubled(x: Any) -> Any:
        return torch.cat([x, x]) if batch == 1 and is_batched(x) else x

    def sizes(x: object) -> dict[int, Any] | None:
        return {0: Dim.DYNAMIC} if is_batched(x) else None

    return pytree.tree_map(doubled, example_inputs), pytree.tree_map(sizes, example_inputs)


def _by_parameter(model: nn.Module, shapes: Any) -> Any:
    """One entry for each parameter of `forward`, as export wants them: one for all of `*args`."""
    if not isinstance(shapes, tuple):
        return shapes
    return tuple(inspect.signature(model.forward).bind(*shapes).arguments.values())


@contextmanager
def _evaluating(model: nn.Module) -> Generator[None, None, None]:
    """`model` in evaluation mode; every module has its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _silence() -> Generator[None, None, None]:
    """Keep export's warnings, logs and dumps of graphs off the console."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


_CAUSES: tuple[tuple[str, type[CaptureError], str], ...] = (
    (
        "data-dependent",
        CaptureError,
        "its control flow depends on the values of a tensor; use torch.where, or take the "
        "decision outside the model",
    ),
    (
        "Constraints violated",
        FixedBatchError,
        "it fixes the batch size; give a tensor with a batch first (by name, any order will do), "
        "free the batch in the model, or capture one example with dynamic_batch=False",
    ),
    (
        "its top-level keys must be the arg names",
        CaptureError,
        "torch.export frees no batch of what `**kwargs` takes; name these inputs in `forward`, or "
        "capture one example with dynamic_batch=False",
    ),
    (
        "DynamicCache",
        CaptureError,
        "it returns a cache; set model.config.use_cache = False",
    ),
)
"""(what the exporter says, the error that it means, its reason)."""


def _explained(model: nn.Module, shape: tuple[int, ...], error: Exception) -> CaptureError:
    """Why the model cannot be captured, and where in its source; sizes such as s31 are the batch.

    shape: of the tensor from which the batch was read.
    """
    text = str(error)
    said = text.strip().splitlines()[0] if text else repr(error)
    unknown = (CaptureError, f"torch.export fails: {said}")
    causes = ((kind, reason) for sign, kind, reason in _CAUSES if sign in text)
    kind, reason = next(causes, unknown)
    if "batch" in reason or re.search(r"\bs\d+\b", reason):
        reason += f"; the batch was read from the first tensor, which has the shape {shape}"
    return kind(f"{type(model).__name__} cannot be captured: {reason}{_model_line(error)}")


def _model_line(error: Exception) -> str:
    """The innermost line of the traceback that is neither PyTorch's nor Quire's."""
    own = (os.path.dirname(torch.__file__), os.path.dirname(os.path.dirname(__file__)))
    stack = traceback.extract_tb(error.__traceback__)
    frames = [f for f in stack if f.line and not f.filename.startswith(own)]
    return f" ({frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line})" if frames else ""
