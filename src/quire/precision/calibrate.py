"""Calibration: what the tensors at the sites look like on data, and the formats that suit them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from quire.errors import FormatError, PlanError
from quire.formats import Block, Fixed, Format, parse
from quire.graph.sites import Site, sites
from quire.graph.types import TensorType, infer_type, type_of
from quire.ops.mask import MASKED
from quire.precision.inputs import flat_inputs, input_names
from quire.precision.plan import Plan, resolve
from quire.precision.static_scale import has_real_scale, static_scale, without_nan

Batch: TypeAlias = "tuple[Any, ...] | Mapping[str, Any]"
Data: TypeAlias = "Batch | Tensor | Iterable[Batch | Tensor]"

SAMPLE = 1 << 16  # values kept of a tensor and batch, besides its extremes


def observe(
    graph: GraphModule, data: Data, names: Iterable[str] | None = None
) -> dict[str, Tensor]:
    """{site: a sample of its values} over the inputs in `data`, before any cast.

    data: one batch (a tensor, a tuple of inputs, or a dict of them by name), or an iterable of
        batches.
    names: the sites to observe (default: all that are tensors).

    Of each tensor and batch the sample has at most 2^16 evenly spaced values, and the lowest and
    the highest; of scores before a softmax none that is masked. Shape (n,), in the tensor's dtype,
    on its device.
    """
    known = sites(graph)
    chosen = [known[name] for name in (known if names is None else names)]
    sources = {site.name: source_node(graph, site) for site in chosen}
    observer = _Observer(graph, {node for node in sources.values() if node is not None})
    run_batches(observer, graph, data)
    if not observer.samples:
        raise PlanError("calibration needs at least one batch of data, and a site to observe")
    joined = {node: torch.cat(parts) for node, parts in observer.samples.items()}
    found = {name: joined[node] for name, node in sources.items() if node in joined}
    return {
        name: x[x > MASKED] if known[name].role == "softmax" else x for name, x in found.items()
    }


def calibrate(graph: GraphModule, data: Data, plan: Plan) -> Plan:
    """A copy of `plan` with static scales for the activations whose format has real scales.

    The scale, and the zero point or the tensor scale where the format has one, are those that the
    format finds for all observed values as one block. Weights keep the scales of their values.
    """
    known = sites(graph)
    entries = resolve(plan, known)
    chosen = [
        site.name
        for site in known.values()
        if site.tie in entries and site.role != "weight" and site.shape
        and has_real_scale(entries[site.tie].format)
    ]  # fmt: skip
    samples = observe(graph, data, chosen) if chosen else {}
    calibrated = Plan(plan)
    for name, sample in samples.items():
        entry = entries[known[name].tie]
        calibrated[name] = replace(entry, scale=static_scale(entry.format, sample))
    return calibrated


def fit_fixed(
    graph: GraphModule,
    data: Data,
    width: int | Mapping[str, int],
    names: Iterable[str] | None = None,
) -> Plan:
    """A plan of fixed(w, f), with the f at each site that has the least squared error on its data.

    width: w, for all sites or by site. names: the sites (default: the operands of products). Sites
    of a tie group share one f. Raises `PlanError` that names a site whose values hold NaN, or whose
    dtype no such format fits.
    """
    known = sites(graph)
    operands = [site.name for site in known.values() if site.is_operand]
    chosen = list(operands if names is None else names)
    samples = observe(graph, data, chosen)
    widths = dict.fromkeys(chosen, width) if isinstance(width, int) else width
    plan: dict[str, Fixed] = {}
    fitted: dict[tuple[str, int], Fixed] = {}
    for name in chosen:
        key = (known[name].tie, widths[name])
        if key not in fitted:
            fitted[key] = Fixed(widths[name], _fraction(name, widths[name], samples[name]))
        plan[name] = fitted[key]
    return Plan(plan)


def _fraction(name: str, width: int, sample: Tensor) -> int:
    try:
        fitted = fit_integer(f"fixed({width},{{}})", [sample])
    except PlanError as error:
        raise PlanError(f"{name}: {error}") from None
    if fitted is None:
        raise PlanError(
            f"{name}: no fixed({width},f) that covers values up to {float(sample.abs().max()):g} "
            f"fits {sample.dtype}: take a narrower format, or the model in float32"
        )
    return fitted


def fit_integer(template: str, tensors: Sequence[Tensor]) -> int | None:
    """The integer that, put for `{}` in `template`, gives the least squared error on `tensors`.

    template: a scalar format whose range halves as the integer grows by one, such as "fixed(8,{})".
    The search starts where the largest magnitude is just covered, and steps while the error falls.
    Errors are taken in float32 at least; infinities do not count, and an integer whose format does
    not fit the tensors' dtype is left out. None where no such format fits it. Raises `PlanError`
    for NaN.
    """
    finite = [_finite(x) for x in tensors]
    largest = max((float(x.abs().max()) for x in finite if x.numel()), default=0.0)
    start = math.floor(math.log2(_highest(template) / largest)) if largest else 0
    dtypes = {x.dtype for x in tensors}

    def error(value: int) -> float:
        format = parse(template.format(value))
        if not all(_fits(format, dtype) for dtype in dtypes):
            return math.inf
        return sum(float((format.quantize(x) - x).double().square().sum()) for x in finite)

    best, least = start, error(start)
    if least == math.inf:
        return None
    if not largest:
        return 0
    for step in (1, -1):
        while (now := error(best + step)) < least:
            best, least = best + step, now
    return best


def _finite(x: Tensor) -> Tensor:
    """The finite values of a sample, in float32 at least."""
    return without_nan(x)[x.isfinite()].to(torch.promote_types(x.dtype, torch.float32))


def _fits(format: Format, dtype: torch.dtype) -> bool:
    try:
        format.check_dtype(dtype)
    except FormatError:
        return False
    return True


def _highest(template: str) -> float:
    format = parse(template.format(0))
    if isinstance(format, Block):
        raise PlanError(f"{format} finds its scale in the data; there is nothing to fit")
    return format.highest  # type: ignore[attr-defined]


def run_batches(interpreter: Interpreter, graph: GraphModule, data: Data) -> None:
    """Run every batch of `data` through an interpreter of `graph`, without gradients."""
    with torch.no_grad():
        for batch in _batches(data):
            interpreter.run(*_flat_inputs(graph, batch), enable_io_processing=False)


class _Observer(Interpreter):
    """Runs a graph and keeps samples of the results of some nodes."""

    def __init__(self, graph: GraphModule, wanted: set[Node]) -> None:
        super().__init__(graph)
        self.samples: dict[Node, list[Tensor]] = {}
        self._wanted = wanted

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n in self._wanted:
            self.samples.setdefault(n, []).append(_sample(result.detach()))
        return result


def _sample(x: Tensor) -> Tensor:
    flat = x.flatten()
    if not flat.numel():
        return flat
    return torch.cat([flat[:: math.ceil(flat.numel() / SAMPLE)], torch.stack(flat.aminmax())])


def source_node(graph: GraphModule, site: Site) -> Node | None:
    """The node whose result is the tensor of a site; None for a scalar constant or a table."""
    node = next(node for node in graph.graph.nodes if node.name == site.node)
    if site.role == "table":
        return None
    if site.arg is None:
        return node
    value = pytree.tree_leaves(node.args)[site.arg] if node.op == "output" else node.args[site.arg]
    return value if isinstance(value, Node) else None


def _batches(data: Data) -> Iterator[Batch]:
    if isinstance(data, str) or not isinstance(data, Iterable):
        raise PlanError(
            f"the data to calibrate with is a {type(data).__name__}: give a batch (a tensor, a"
            " tuple of inputs, or a dict of them by name), or an iterable of batches"
        )
    if isinstance(data, tuple | Mapping | Tensor):
        data = (cast("Batch | Tensor", data),)
    for batch in data:
        yield (batch,) if isinstance(batch, Tensor) else batch


def _flat_inputs(graph: GraphModule, batch: Batch) -> list[Any]:
    """The inputs of a graph in the order of its placeholders."""
    try:
        args, kwargs = ((), dict(batch)) if isinstance(batch, Mapping) else (tuple(batch), {})
        inputs = flat_inputs(graph, args, kwargs)
    except (TypeError, KeyError, ValueError) as error:
        expected = ", ".join(input_names(graph))
        raise PlanError(
            f"a batch of data is not what the graph takes ({expected}): {error}"
        ) from None
    for node, value in zip(graph.graph.find_nodes(op="placeholder"), inputs, strict=True):
        taken = type_of(node)
        if taken is not None and not _is_like(value, taken):
            given = infer_type(value) or type(value).__name__
            raise PlanError(f"a batch of data gives {node.name} {given}; the graph takes {taken}")
        if isinstance(value, Tensor) and not value.numel():
            raise PlanError(f"a batch of data gives {node.name} {tuple(value.shape)}: no example")
    return inputs


def _is_like(value: object, taken: TensorType) -> bool:
    """Whether a value is a tensor of the rank and of the fixed sizes of a type, and of its dtype
    where that is a floating-point one."""
    given = infer_type(value)
    if not isinstance(value, Tensor) or given is None or value.dim() != len(taken.shape):
        return False
    if given.format != taken.format and (given.is_float or taken.is_float):
        return False
    sizes = zip(value.shape, taken.shape, strict=True)
    return all(isinstance(size, str) or found == size for found, size in sizes)
