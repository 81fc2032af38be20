"""Which part of a live model gets which entry of a plan, decided before anything is changed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from torch import nn
from torch.fx import GraphModule

from quire.errors import FormatError, PlanError
from quire.formats import parse
from quire.graph.sites import sites
from quire.ops.base import all_ops
from quire.precision import Plan
from quire.precision.entry import Entry
from quire.precision.plan import resolve
from quire.software.applied import Applied, Rounding, Swap
from quire.software.mx.layout import supports
from quire.software.mx.linear import MXLinear, class_name
from quire.software.mx.ops import DTYPES
from quire.software.places import Place, places
from quire.software.plans import PlanLike, check_plan, entries_of, one_format

FP32 = parse("fp32")
SHARED = "another module shares the tensor: where the plan names it, it is rounded"
GRAPH_ONLY = "no tensor of a linear layer: quire.compile(model, plan) applies it"
_LABELS = ("qk", "pv", "scale", "mask", "input", "output")  # names of ops that are no op's own


def plan_of(value: PlanLike, weights: Iterable[str]) -> Plan:
    """A plan from a plan, a mapping, the path of a plan's file, or one format for `weights`.

    Raises `PlanError` for a string that is neither a format nor a file, and for another type.
    """
    check_plan(value)
    format = one_format(value)
    return Plan(entries_of(value) if format is None else dict.fromkeys(weights, format))


def spelled_out(plan: Plan, graph: GraphModule) -> Plan:
    """The plan with an entry for every site of its tie groups."""
    known = sites(graph)
    entries = resolve(plan, known)
    return Plan({s.name: entries[s.tie] for s in known.values() if s.tie in entries})


def assign(
    model: nn.Module,
    plan: PlanLike,
    graph: GraphModule | None = None,
    tied: Mapping[str, str] | None = None,
) -> Applied:
    """What a plan does to a model; see `quire.apply`. Raises `PlanError`."""
    known = places(model, tied)
    linear = [place for place in known.values() if place.is_weight_of_linear]
    given = plan_of(plan, [place.name for place in linear if place.alone])
    if graph is not None:
        patterns = {name: entry for name, entry in given.items() if _is_pattern(name)}
        given = Plan.from_patterns(graph, given) if patterns else spelled_out(given, graph)
    found = Applied()
    if one_format(plan) is not None:
        found.left.update({place.name: SHARED for place in linear if not place.alone})
    chosen = _chosen(given, known, model, found.left)
    weights = {name: entry for name, entry in chosen.items() if known[name].operand != "input"}
    inputs = {known[name].path: chosen[name] for name in chosen.keys() - weights.keys()}
    for name, entry in weights.items():
        _assign_parameter(known[name], entry, inputs, found)
    found.cast.update({path: e for path, e in inputs.items() if path not in found.swapped})
    _note_uncast(found, inputs)
    return found


def _chosen(
    plan: Plan, known: Mapping[str, Place], model: nn.Module, left: dict[str, str]
) -> dict[str, Entry]:
    """{first name of a tensor: entry}; what has no place goes to `left`."""
    chosen: dict[str, tuple[str, Entry]] = {}
    for key, entry in plan.items():
        matched = _matches(key, entry, known)
        if not matched:
            left[key] = _why_left(key, model, known)
        for place in matched:
            first, other = chosen.get(place.group, (key, entry))
            if other != entry and not _is_pattern(first) and not _is_pattern(key):
                raise PlanError(
                    f"{first} is {other} and {key} is {entry}, but they are one tensor: give both"
                    " the same entry, or drop one"
                )
            chosen[place.group] = key, entry
    names = _representatives(known)
    return {names[group]: entry for group, (_, entry) in chosen.items() if entry.format != FP32}


def _representatives(known: Mapping[str, Place]) -> dict[str, str]:
    """{group: one of its names}: the weight of a linear layer, whose axis counts, or the first."""
    ordered = sorted(known.values(), key=lambda place: not place.is_weight_of_linear)
    return {place.group: place.name for place in reversed(ordered)}


def _matches(key: str, entry: Entry, known: Mapping[str, Place]) -> list[Place]:
    """The places that a key of a plan names; of a pattern's those for which its format is legal."""
    if not _is_pattern(key):
        name = re.sub(r"#\d+(?=\.[^.]*$)", "", key)  # a later call of a module, "fc1#2.input"
        place = known.get(name)
        if place is not None:
            _check(place, entry)
        return [] if place is None else [place]
    matched = [place for place in known.values() if fnmatchcase(place.name, key)]
    legal = [place for place in matched if _problem(place, entry) is None]
    if matched and not legal:
        _check(matched[0], entry)
    if not matched:
        raise PlanError(f"pattern {key!r} matches no tensor of the model's modules")
    return legal


def _check(place: Place, entry: Entry) -> None:
    problem = _problem(place, entry)
    if problem is not None:
        raise PlanError(f"{place.name} {problem}")


def _problem(place: Place, entry: Entry) -> str | None:
    """Why a place cannot have an entry, as the end of a sentence, or None."""
    if entry.corrections:
        names = ", ".join(entry.corrections)
        return (
            f"has corrections ({names}), which quire.correct makes in a captured graph: load its "
            "state_dict() into the model, and give the plan that it returns"
        )
    if place.operand == "input" and entry.axis not in (None, -1):
        return f"has axis={entry.axis}; the input of a live layer is cast along its last axis"
    try:
        if entry.format != FP32:
            entry.format.check_dtype(place.dtype)
    except FormatError as error:
        return f"is {str(place.dtype).removeprefix('torch.')}: {error}"
    return None


# Why the weight of a linear layer is not held in codes; the first that holds is said.
_OBSTACLES: tuple[tuple[Callable[[Place, Entry], bool], str], ...] = (
    (lambda place, entry: not place.path, "the model itself cannot be swapped in place"),
    (lambda place, entry: not supports(entry.format), "no kernel holds the format in codes"),
    (lambda place, entry: not place.alone, "another module shares the tensor"),
    (lambda place, entry: entry.scale is not None, "its scale is static"),
    (lambda place, entry: entry.axis not in (None, place.axis), "its axis is not the product's"),
    (lambda place, entry: place.dtype not in DTYPES, "no kernel takes its dtype"),
)


def _assign_parameter(
    place: Place, entry: Entry, inputs: Mapping[str, Entry], found: Applied
) -> None:
    reason = "no weight of a linear layer"
    if place.is_weight_of_linear:
        reason = next((said for holds, said in _OBSTACLES if holds(place, entry)), None)
    axis = place.axis if entry.axis is None else entry.axis
    if reason is None:
        found.swapped[place.path] = Swap(entry, inputs.get(place.path))
    elif axis is None:
        found.left[place.name] = f"a {class_name(place.module)} has no known axis: set entry.axis"
    else:
        found.rounded[place.name] = Rounding(entry, axis, reason)


def _note_uncast(found: Applied, inputs: Mapping[str, Entry]) -> None:
    """Say which swapped layers have no cast of their input in a plan that casts inputs."""
    if not inputs:
        return
    for path in found.swapped.keys() - inputs.keys():
        found.left[f"{path}.input"] = (
            "the plan has no entry: if it is tied to one that has, give graph=quire.capture(...)"
        )


def _why_left(key: str, model: nn.Module, known: Mapping[str, Place]) -> str:
    """Why a site has no place in a live model; raises `PlanError` for what looks like no site."""
    module, rest = _descend(model, key)
    if isinstance(module, MXLinear):
        return f"it is in codes already ({module.format})"
    operands = {operand.name for op in all_ops() for operand in op.operands}
    ops = {*_LABELS, *(op.name for op in all_ops())}
    is_operand = len(rest) == 1 and rest[0] in operands
    is_op = len(rest) == 2 and re.sub(r"_\d+$", "", rest[0]) in ops
    if is_operand or is_op:
        return GRAPH_ONLY
    close = difflib.get_close_matches(key, list(known), 3, 0.5)
    hint = f": did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise PlanError(f"no site {key!r} in this {type(model).__name__}{hint}")


def _descend(model: nn.Module, key: str) -> tuple[nn.Module, list[str]]:
    """The innermost module whose path starts a name, and the rest of the name."""
    parts = re.sub(r"#\d+", "", key).split(".")
    module = model
    while len(parts) > 1 and parts[0] in dict(module.named_children()):
        module = module.get_submodule(parts.pop(0))
    return module, parts


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")
