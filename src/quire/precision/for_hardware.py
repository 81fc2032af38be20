"""What a plan needs before it becomes hardware: bounded scales, and formats where tables begin."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.fx import GraphModule, Node

from quire.formats import Block, Fixed, Pow2, Scalar
from quire.graph.sites import Site, sites
from quire.ops import op_of
from quire.precision.calibrate import Data, fit_fixed, observe, source_node
from quire.precision.entry import Entry
from quire.precision.legal import is_legal, suits
from quire.precision.plan import Plan, resolve
from quire.precision.static_scale import informative, without_nan

SCALE_BITS = 4
"""Bits of the exponent of an activation's scale: 16 exponents, one above the largest seen."""

TABLE_INPUT = 10
TABLE_OUTPUT = 16
BIAS = 16
INPUT = 16
OPERAND = 16
"""Bits of the fixed-point formats of tables, biases, inputs that are not cast alike, and exact
values that are multiplied."""

CONSTANT = Entry.of("minifloat(e=8,m=15)")
"""A scalar constant keeps 16 significant bits."""

WIDEST_TABLE = 16
"""Bits of the widest code that a table is read with."""

_LOGIC = ("relu", "dropout")
"""Functions of one number that hardware computes without a table."""

_KEEPING = ("dropout", "movement")
"""Ops whose results have the format of what they read."""

REASONS = {
    "unary": "a table has scalars at its ends",
    "activation": "fp32 is too wide to multiply exactly",
    "bias": "no finer than its sum needs",
    "constant": "16 significant bits",
    "input": "what the host sends",
}
"""Why a site gets a format that it did not have, by its role."""

FEW_SCALES = "the scales of the data"
"""Why a block gets another scale."""


def for_hardware(plan: Plan, graph: GraphModule, calibration: Data, quiet: bool = False) -> Plan:
    """See `Plan.for_hardware`."""
    known = sites(graph)
    adapted = Plan(resolve(plan, known))
    _free_tables(adapted, known)
    _bound_scales(adapted, graph, known, calibration)
    _fill(adapted, graph, known, calibration)
    _type_inputs(adapted, graph, known, calibration)
    adapted.check(graph)
    if not quiet:
        _print_changes(Plan(resolve(plan, known)), adapted, known)
    return adapted


def _free_tables(plan: Plan, known: dict[str, Site]) -> None:
    """The ends of a table lose formats that it cannot have, and are filled as if they had none."""
    for name in [name for name, entry in plan.items() if not _suits_table(known[name], entry)]:
        del plan[name]


def _suits_table(site: Site, entry: Entry) -> bool:
    """Whether hardware can have an entry, if the site is an end of a table."""
    if not _is_table(site):
        return True
    narrow = site.arg is None or entry.format.bits <= WIDEST_TABLE
    return isinstance(entry.format, Scalar) and narrow


def _is_table(site: Site) -> bool:
    return site.role == "unary" and site.op not in _LOGIC


def _bound_scales(plan: Plan, graph: GraphModule, known: dict[str, Site], data: Data) -> None:
    """A scale that can have any exponent gets the 16 that the data asks for."""
    wide = [
        name for name, entry in plan.items() if _is_wide(entry) and known[name].role != "weight"
    ]
    for name, values in (observe(graph, data, wide) if wide else {}).items():
        plan[name] = _bounded(plan[name], values)


def _is_wide(entry: Entry) -> bool:
    scale = entry.format.scale if isinstance(entry.format, Block) else None
    return isinstance(scale, Pow2) and scale.e > SCALE_BITS


def _bounded(entry: Entry, values: Tensor) -> Entry:
    block = entry.format
    assert isinstance(block, Block)
    whole = replace(block, size="tensor").encode(_finite(values))
    assert whole.scales is not None
    top = int(block.scale.values_of(whole.scales.long()).log2()) + 1
    scale = Pow2(SCALE_BITS, 2**SCALE_BITS - 1 - top)
    return replace(entry, format=replace(block, scale=scale))


def _finite(values: Tensor) -> Tensor:
    values = without_nan(values)
    return informative(values[values.isfinite()].float())


def _fill(plan: Plan, graph: GraphModule, known: dict[str, Site], data: Data) -> None:
    """Formats for what has none: the ends of tables, biases, constants."""
    nodes = {node.name: node for node in graph.graph.nodes}
    taken = {known[name].tie for name in plan}
    widths: dict[str, int] = {}
    for site in known.values():
        if site.tie in taken:
            continue
        if site.role == "constant" and is_legal(site, CONSTANT.format):
            plan[site.tie] = CONSTANT
        width = _width(plan, known, nodes, site)
        if width is not None:
            widths[site.tie] = width
    if widths:
        fitted = fit_fixed(graph, data, widths, list(widths))
        plan.update({n: e for n, e in fitted.items() if suits(known[n], e.format)})
    for name in widths:
        if known[name].role == "bias" and name in plan:
            plan[name] = _on_product_grid(plan, known, known[name])


def _on_product_grid(plan: Plan, known: dict[str, Site], bias: Site) -> Entry:
    """A bias no finer than the products that it is added to, which would widen their sum."""
    operands = [s for s in known.values() if s.node == bias.node and s.is_operand]
    formats = [plan[s.tie].format for s in operands if s.tie in plan]
    scalars = [f for f in formats if isinstance(f, Scalar)]
    entry = plan[bias.name]
    if len(scalars) != 2 or not isinstance(entry.format, Fixed):
        return entry
    finest = -sum(f.quantum_exponent for f in scalars)
    return Entry(Fixed(entry.format.w, min(entry.format.f, finest)))


def _width(plan: Plan, known: dict[str, Site], nodes: dict[str, Node], site: Site) -> int | None:
    """Bits of the fixed-point format that a site without an entry gets; None for none."""
    if site.role == "bias":
        return BIAS
    is_table = _is_table(site)
    if site.arg is None:
        return TABLE_OUTPUT if is_table and _needs_output(plan, known, nodes[site.node]) else None
    if is_table or site.role in ("softmax", "norm"):
        return TABLE_INPUT
    return OPERAND if site.op == "mul" and _is_exact_operand(nodes[site.node], site) else None


def _is_exact_operand(node: Node, site: Site) -> bool:
    """Whether an operand of a product of two activations has no format of its own."""
    operands = [a for a in node.args if isinstance(a, Node)]
    if site.role != "activation" or len(operands) != 2:
        return False
    source = operands[site.arg or 0]
    while (op := op_of(source)) is not None and op.name in _KEEPING:
        if len(source.all_input_nodes) != 1:
            return True
        source = source.all_input_nodes[0]
    if op is None or op.name in _LOGIC:
        return source.op != "placeholder"
    return all(operand.role != "unary" for operand in op.operands)


def _needs_output(plan: Plan, known: dict[str, Site], node: Node) -> bool:
    """Whether the result of a function goes anywhere but to one cast to a scalar format."""
    readers = [s for s in known.values() if s.arg is not None and _reads(s, node)]
    entries = {plan.get(s.tie) for s in readers}
    only = next(iter(entries)) if len(entries) == 1 else None
    return only is None or len(readers) != len(node.users) or only.format.is_block


def _reads(site: Site, node: Node) -> bool:
    return any(user.name == site.node and _read(user, site.arg or 0) is node for user in node.users)


def _read(user: Node, place: int) -> object:
    arguments = user.args[0] if user.op == "output" else user.args
    assert isinstance(arguments, tuple | list)
    return arguments[place]


def _type_inputs(plan: Plan, graph: GraphModule, known: dict[str, Site], data: Data) -> None:
    """The host encodes an input: into the format to which all its readers cast it, or fixed."""
    taken = {known[name].tie for name in plan}
    inputs = [s for s in known.values() if s.role == "input" and s.tie not in taken]
    shared = {site.name: _one_cast(plan, graph, known, site) for site in inputs}
    plan.update({name: entry for name, entry in shared.items() if entry is not None})
    rest = [name for name, entry in shared.items() if entry is None]
    if rest:
        plan.update(fit_fixed(graph, data, INPUT, rest))


def _one_cast(plan: Plan, graph: GraphModule, known: dict[str, Site], site: Site) -> Entry | None:
    """The entry that all readers of an input share and that the input can have."""
    node = source_node(graph, site)
    assert node is not None
    readers = [s for s in known.values() if s.role != "input" and _reads(s, node)]
    entries = {plan.get(s.tie) for s in readers}
    entry = next(iter(entries)) if len(entries) == 1 else None
    if entry is None or len(readers) != len(node.users) or not is_legal(site, entry):
        return None
    return entry


def _print_changes(before: Plan, after: Plan, known: dict[str, Site]) -> None:
    table = Table("site", "plan", "for hardware", "why", box=None)
    for name, (old, new) in before.diff(after).items():
        cells = ["-" if entry is None else str(entry) for entry in (old, new)]
        table.add_row(name, *cells, _reason(known[name], old))
    if not table.row_count:
        Console().print("the plan fits hardware as it is")
        return
    # As wide as its text: a format that is cut at a terminal's edge cannot be copied.
    width = Console(width=_WIDEST_LINE).measure(table).maximum
    Console(width=width).print(table, markup=False)


_WIDEST_LINE = 1000


def _reason(site: Site, old: Entry | None) -> str:
    is_kept = old is not None and _suits_table(site, old)
    return FEW_SCALES if is_kept else REASONS.get(site.role, "its exact form takes fixed point")
