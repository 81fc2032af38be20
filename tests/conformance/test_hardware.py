"""Random networks in random formats as hardware: every output bit equals `exact`, with stalls.

Several small networks share one top, because building its simulator takes longest.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import gcd, prod
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import quire
from quire.errors import HardwareError
from quire.formats import Block, Pow2, Scalar, parse
from quire.hardware import Design, Stalls
from quire.hardware.emitted import Emitted
from quire.hardware.lint import lint
from quire.hardware.schedule import Lanes
from quire.hardware.toolchain import run_yosys
from quire.precision.entry import Entry

NETWORKS = 5
"""Networks in one top."""

FEWEST = 64
"""Samples at least: enough that the interval settles."""


# ---------------------------------------------------------------------------------- networks
class Chain(nn.Module):
    """Linear layers with a function after each but the last."""

    def __init__(self, r: random.Random, sizes: list[int]) -> None:
        super().__init__()
        pairs = pairwise(sizes)
        self.layers = nn.ModuleList(nn.Linear(k, n, bias=r.random() < 0.8) for k, n in pairs)
        self.functions = nn.ModuleList(function(r) for _ in self.layers[1:])

    def forward(self, x: Tensor) -> Tensor:
        for layer, f in zip(self.layers, [*self.functions, nn.Identity()], strict=True):
            x = f(layer(x))
        return x


class Residual(nn.Module):
    def __init__(self, r: random.Random, k: int, n: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(k, n), nn.Linear(n, k)
        self.function = function(r)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.function(self.up(x)))


class Gated(nn.Module):
    """A fan-out to two layers, and the product of what they give."""

    def __init__(self, r: random.Random, k: int, n: int, m: int) -> None:
        super().__init__()
        self.gate, self.value, self.down = nn.Linear(k, n), nn.Linear(k, n), nn.Linear(n, m)
        self.function = function(r)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.function(self.gate(x)) * self.value(x))


class Flattened(nn.Module):
    """Tokens, then all of them as one row; and back."""

    def __init__(self, k: int, n: int, tokens: int, m: int) -> None:
        super().__init__()
        self.each, self.all, self.last = nn.Linear(k, n), nn.Linear(tokens * n, 2 * m), None
        self.last = nn.Linear(m, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.all(self.each(x).flatten(1)))
        return self.last(x.reshape(x.shape[0], 2, -1))


class Joined(nn.Module):
    """Two layers side by side and the input itself, concatenated."""

    def __init__(self, k: int, a: int, b: int, n: int) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(k, a), nn.Linear(k, b), nn.Linear(a + b + k, n)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([torch.relu(self.a(x)), self.b(x), x], -1))


class TwoInputs(nn.Module):
    def __init__(self, k: int, n: int, multiplies: bool) -> None:
        super().__init__()
        self.a, self.b, self.multiplies = nn.Linear(k, n), nn.Linear(n, n), multiplies

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        a = self.a(x)
        return self.b(a * y if self.multiplies else a + y)


class TwoOutputs(nn.Module):
    def __init__(self, k: int, n: int, a: int, b: int) -> None:
        super().__init__()
        self.body, self.a, self.b = nn.Linear(k, n), nn.Linear(n, a), nn.Linear(n, b)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.relu(self.body(x))
        return self.a(x), x, self.b(x)


class Twice(nn.Module):
    """One layer used twice, and another with the same weights."""

    def __init__(self, r: random.Random, k: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(k, k), nn.Linear(k, k)
        self.second.load_state_dict(self.first.state_dict())
        self.function = function(r)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(self.function(self.first(x)))))


FUNCTIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU,
    nn.GELU,
    nn.Sigmoid,
    nn.Tanh,
    nn.SiLU,
    nn.ELU,
    nn.Softplus,
    nn.Hardswish,
    nn.LeakyReLU,
]


def function(r: random.Random) -> nn.Module:
    return nn.ReLU() if r.random() < 0.3 else r.choice(FUNCTIONS)()


Shape = tuple[int, ...]


def _tokens(r: random.Random) -> Shape:
    return r.choice([(), (), (2,), (3,), (2, 2)])


def _chain(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    sizes = [r.randint(1, 20) for _ in range(r.randint(2, 4))]
    return Chain(r, sizes), [(*_tokens(r), sizes[0])]


def _deep(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    sizes = [r.randint(1, 9) for _ in range(8)]
    return Chain(r, sizes), [(sizes[0],)]


def _wide(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    sizes = [r.randint(33, 140), r.randint(1, 6)]
    return Chain(r, sizes), [(sizes[0],)]


def _residual(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    k = r.randint(1, 14)
    return Residual(r, k, r.randint(1, 14)), [(*_tokens(r), k)]


def _gated(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    k = r.randint(1, 14)
    return Gated(r, k, r.randint(1, 12), r.randint(1, 9)), [(*_tokens(r), k)]


def _flattened(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    k, tokens = r.randint(1, 8), r.randint(2, 5)
    return Flattened(k, r.randint(1, 7), tokens, r.randint(1, 7)), [(tokens, k)]


def _joined(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    k = r.randint(1, 9)
    module = Joined(k, r.randint(1, 9), r.randint(1, 9), r.randint(1, 9))
    return module, [(*_tokens(r), k)]


def _two_inputs(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    k, n, tokens = r.randint(1, 12), r.randint(1, 12), _tokens(r)
    return TwoInputs(k, n, r.random() < 0.5), [(*tokens, k), (*tokens, n)]


def _two_outputs(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    k = r.randint(1, 12)
    sizes = [r.randint(1, 12) for _ in range(3)]
    return TwoOutputs(k, *sizes), [(*_tokens(r), k)]


def _twice(r: random.Random) -> tuple[nn.Module, list[Shape]]:
    k = r.randint(1, 10)
    return Twice(r, k), [(*_tokens(r), k)]


KINDS = [
    _chain,
    _residual,
    _gated,
    _flattened,
    _joined,
    _two_inputs,
    _two_outputs,
    _twice,
    _deep,
    _wide,
]


class Several(nn.Module):
    """Networks side by side."""

    def __init__(self, networks: list[nn.Module], inputs: list[int]) -> None:
        super().__init__()
        self.networks, self.inputs = nn.ModuleList(networks), inputs

    def forward(
        self,
        a: Tensor,
        b: Tensor | None = None,
        c: Tensor | None = None,
        d: Tensor | None = None,
        e: Tensor | None = None,
        f: Tensor | None = None,
        g: Tensor | None = None,
        h: Tensor | None = None,
        i: Tensor | None = None,
        j: Tensor | None = None,
    ) -> list[Tensor | tuple[Tensor, ...]]:
        rest = iter((a, b, c, d, e, f, g, h, i, j))
        pairs = zip(self.networks, self.inputs, strict=True)
        return [network(*(next(rest) for _ in range(count))) for network, count in pairs]


# ----------------------------------------------------------------------------------- formats
def _fixed(r: random.Random) -> str:
    w = r.randint(2, 10)
    return f"fixed({w},{r.randint(-1, w)})"


def _ufixed(r: random.Random) -> str:
    w = r.randint(1, 8)
    return f"ufixed({w},{r.randint(-1, w)})"


def _minifloat(r: random.Random) -> str:
    formats = ["fp8_e4m3", "fp8_e5m2", "fp6_e2m3", "fp6_e3m2", "fp4_e2m1"]
    return r.choice([*formats, *(f"minifloat(e={r.randint(1, 4)},m={r.randint(1, 4)})",) * 3])


def _dmf(r: random.Random) -> str:
    return f"dmf(e={r.randint(1, 4)},m={r.randint(1, 4)})"


def _log(r: random.Random) -> str:
    return f"log({r.randint(3, 6)})"


def _listed(*formats: str) -> Callable[[random.Random], str]:
    return lambda r: r.choice(formats)


Choice = Callable[[random.Random], str]
SCALARS: list[Choice] = [
    _fixed,
    _ufixed,
    _minifloat,
    _dmf,
    _log,
    _listed("binary"),
    _listed("ternary"),
    _listed('table("nf4")'),
]


def _scalar(r: random.Random) -> str:
    return r.choice(SCALARS)(r)


def _size(r: random.Random) -> int:
    return r.choice([2, 3, 4, 6, 8, 16, 32])


def _dynamic(r: random.Random) -> str:
    """A block with a power of two of few exponents, as an activation has."""
    bits = r.randint(1, 4)
    w = r.randint(2, 8)
    bias = r.randint(0, 2**bits)
    elements = [f"fixed({w},{w - 2})", _minifloat(r), f"log({r.randint(3, 5)},bias=0)", _dmf(r)]
    return f"block({r.choice(elements)},size={_size(r)},scale=pow2({bits},bias={bias}))"


def _real(r: random.Random) -> str:
    """A block with a real scale, which an activation has as a static one."""
    element = r.choice(
        ["fixed(8,0)", "fixed(4,0)", "fixed(3,0)", "ufixed(5,0)", "ternary", "binary"]
    )
    scale = r.choice(["bf16", "fp8_e4m3"])
    size = r.choice([str(_size(r)), '"all"', '"tensor"'])
    return f"block({element},size={size},scale={scale})"


ACTIVATIONS = [*SCALARS, _fixed, _dynamic, _dynamic, _dynamic, _real]
WEIGHTS: list[Choice] = [
    *SCALARS,
    _dynamic,
    _real,
    _real,
    _listed("mxint8", "mxint4", "mxint2", "mxfp4", "mxfp8_e4m3", "mxfp6_e2m3"),
    _listed("mxint8", "mxint4"),
    _listed("int4_g128", "block(fp4_e2m1,size=16,scale=fp8_e4m3)"),
    lambda r: f"bfp({r.randint(2, 8)},scale_bits=8,size={_size(r)})",
    lambda r: f"bm(e=2,m=1,scale_bits=8,size={_size(r)})",
    lambda r: f"bl({r.randint(3, 5)},scale_bits=8,size={_size(r)})",
]


def _bias(r: random.Random) -> str | None:
    return r.choice([None, None, f"fixed(16,{r.randint(4, 16)})", _fixed(r), _minifloat(r)])


def activation(r: random.Random, choices: Sequence[Choice] | None = None) -> Entry:
    format = parse(r.choice(choices or ACTIVATIONS)(r))
    if isinstance(format, Block) and not isinstance(format.scale, Pow2):
        scale = format.scale.quantize(torch.tensor(2 ** r.uniform(-4, 2)))
        return Entry(format, scale=float(scale))
    return Entry(format)


def _table_input(r: random.Random) -> Entry:
    wide = f"fixed(10,{r.randint(2, 8)})"
    return Entry.of(wide if r.random() < 0.7 else _scalar(r))


def random_plan(r: random.Random, graph: GraphModule) -> quire.Plan:
    """An entry wherever hardware needs one, and at some places where it does not."""
    plan = quire.Plan()
    for site in quire.sites(graph).values():
        is_table = site.role == "unary" and site.op != "relu"
        roles: dict[str, Callable[[], Entry | str | None]] = {
            "input": lambda: activation(r),
            "activation": lambda: activation(r),
            "weight": lambda: r.choice(WEIGHTS)(r),
            "bias": lambda: _bias(r),
            "residual": lambda: r.choice([None, None, activation(r)]),
            "output": lambda: r.choice([None, activation(r)]),
            "constant": lambda: r.choice([None, "minifloat(e=8,m=15)"]),
        }
        if is_table:
            entry = _table_input(r) if site.arg is not None else activation(r, SCALARS)
        else:
            entry = roles.get(site.role, lambda: r.choice([None, None, _scalar(r)]))()
        if entry is not None and site.tie == site.name:
            plan[site.name] = entry
    return plan


def random_lanes(r: random.Random, q: GraphModule) -> dict[str, tuple[int, int]]:
    """Legal lanes with which no layer is slow."""
    chosen: dict[str, tuple[int, int]] = {}
    for node in q.graph.nodes:
        if node.meta.get("quire_op") != "linear":
            continue
        source, weight = node.args[:2]
        n, k = weight.meta["val"].shape
        sizes = [parse(str(c.args[1])) for c in (source, weight)]
        blocks = [f.size for f in sizes if isinstance(f, Block) and isinstance(f.size, int)]
        inner = gcd(*(size for size in blocks if size < k))
        legal = [m for m in range(1, k + 1) if inner % m == 0]
        lanes = r.choice([m for m in legal if -(-k // m) <= 24] or legal[-1:])
        outs = [m for m in range(1, n + 1) if -(-n // m) * -(-k // lanes) <= 60] or [n]
        chosen.setdefault(node.meta["quire_path"], (lanes, r.choice(outs)))
    return chosen


# ------------------------------------------------------------------------------------ inputs
def values(r: torch.Generator, entry: Entry, shape: Shape) -> Tensor:
    """Inputs of a format: any codes at any scale, the extremes, zeros, and normal numbers."""
    element = entry.format.element if isinstance(entry.format, Block) else entry.format
    assert isinstance(element, Scalar)
    codes = torch.randint(0, 2**element.bits, shape, generator=r)
    x = element.values_of(codes).float().nan_to_num(0.0, 1.0, -1.0)
    factor = 1.0 if entry.scale is None else float(entry.scale)
    ones = [1] * (len(shape) - 1)
    is_block = isinstance(entry.format, Block) and entry.scale is None
    scales = 2.0 ** torch.randint(-10, 10, (shape[0], *ones), generator=r) if is_block else factor
    normal = torch.randn(shape, generator=r)
    normal = normal * 10 ** (6 * torch.rand((shape[0], *ones), generator=r) - 3)
    extreme = 1e30 * torch.randint(-1, 2, shape, generator=r)
    kind = torch.randint(0, 10, (shape[0], *ones), generator=r)
    rows = torch.rand((*shape[:-1], 1), generator=r) < 0.9
    chosen = torch.where(kind < 6, x * scales, torch.where(kind < 9, normal, extreme))
    return chosen * rows


# ------------------------------------------------------------------------------------- tests
@dataclass(frozen=True)
class Case:
    """A top of several networks, emitted; and inputs for it."""

    design: Design
    graph: GraphModule
    inputs: tuple[Tensor, ...]


def make(seed: int, folder: Path, codes: int, count: int = NETWORKS) -> Case:
    """A top of `count` random networks, and inputs for at least so many codes at its outputs."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    made = [r.choice(KINDS)(r) for _ in range(count)]
    model = Several([m for m, _ in made], [len(shapes) for _, shapes in made]).eval()
    shapes = [shape for _, shapes in made for shape in shapes]
    graph = quire.capture(model, tuple(torch.randn(3, *shape) for shape in shapes))
    plan = random_plan(r, graph)
    q = quire.quantize(graph, plan)
    design = quire.emit(q, folder, random_lanes(r, q), rom=r.choice(["auto", "block", "logic"]))
    samples = max(FEWEST, -(-codes // sum(prod(s.shape) for s in design.outputs)))
    generator = torch.Generator().manual_seed(seed)
    entries = [plan[s.name] for s in quire.sites(graph).values() if s.role == "input"]
    pairs = zip(entries, shapes, strict=True)
    inputs = tuple(values(generator, e, (samples, *shape)) for e, shape in pairs)
    return Case(design, q, inputs)


def check(case: Case, seed: int, least: int) -> None:
    """No output bit differs from `exact` under stalls, and the design predicts its own timing."""
    stalled = case.design.simulate(*case.inputs, stalls=Stalls(0.3, 0.3), seed=seed)
    assert stalled.compared >= least
    run = case.design.simulate(*case.inputs, check=False)
    for free, paused in zip(run.outputs, stalled.outputs, strict=True):
        assert torch.equal(free, paused)
    assert run.latency == run.predicted[0]
    assert run.interval is not None
    assert round(run.interval) == run.predicted[1]


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_are_exact_under_stalls(tmp_path: Path, seed: int):
    case = make(seed, tmp_path, 2000)
    check(case, seed, 2000)
    check_sources(case.design)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_five_hundred_networks_and_a_million_codes(tmp_path: Path, seed: int):
    case = make(seed, tmp_path, 10_000)
    check(case, seed, 10_000)
    check_sources(case.design)


def test_one_scale_for_a_row_and_static_powers_of_two(tmp_path: Path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5), nn.Linear(5, 3))
    graph = quire.capture(model, (torch.randn(2, 7),))
    first = next(s.name for s in quire.sites(graph).values() if s.role == "input")
    row = Entry.of('block(fixed(6,4),size="all",scale=pow2(4))')
    static = Entry(parse("block(fixed(6,4),size=4,scale=pow2(4))"), scale=0.5)
    plan = quire.Plan({first: row, "0.input": row, "2.input": static, "3.input": row})
    plan |= {f"{layer}.weight": row for layer in (0, 2, 3)}
    q = quire.quantize(graph, plan | {"0.weight": static})
    design = quire.emit(q, tmp_path, {"0": (2, 2), "2": (4, 2), "3": (2, 2)})
    x = torch.randn(400, 7) * 2.0 ** torch.randint(-8, 4, (400, 1))
    check(Case(design, q, (x,)), 0, 1200)


BLOCKS = [
    *("mxint8", "mxfp8_e4m3", "bfp(7,scale_bits=5,size=5)"),
    *("bm(e=2,m=1,scale_bits=8,size=16)", "bl(4,scale_bits=8,size=16)"),
    *("block(dmf(e=2,m=2),size=8,scale=pow2(8))", "int4_g128", "block(binary,size=8,scale=bf16)"),
    *("block(ternary,size=8,scale=bf16)", "block(fp4_e2m1,size=16,scale=fp8_e4m3)"),
]
"""A block format of each family, with scales from the data."""


class Everything(nn.Module):
    """Functions, a sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(7, 9), nn.Linear(9, 9), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = nn.functional.silu(self.a(x))
        b = torch.tanh(a + torch.relu(self.b(a)))
        return self.c(torch.cat([b, x], -1))


EVERYWHERE = [
    *("mxint8", "mxfp4", "mxfp8_e4m3", "bl(4,scale_bits=8,size=16)", "bfp(6,scale_bits=8,size=4)"),
    *("fixed(8,4)", "fp8_e4m3", "dmf(e=3,m=3)", "log(6)", "ternary"),
]


def test_a_format_at_every_site_goes_through_for_hardware(tmp_path: Path):
    model = Several([Everything() for _ in EVERYWHERE], [1] * len(EVERYWHERE)).eval()
    inputs = tuple(torch.randn(64, 7) for _ in EVERYWHERE)
    graph = quire.capture(model, inputs)
    plans = [quire.Plan.uniform(graph, format, scope="all") for format in EVERYWHERE]
    ends = [[f"networks.{i}.", f"input.{'abcdefghij'[i]}", f"output.{i}"] for i in range(10)]
    plan = quire.Plan(
        {
            site: entry
            for own, of in zip(plans, ends, strict=True)
            for site, entry in own.items()
            if site.startswith(of[0]) or site in of
        }
    )
    assert set(plan) == set(plans[0])
    q = quire.quantize(graph, plan.for_hardware(graph, inputs, quiet=True))
    check(Case(quire.emit(q, tmp_path, rate=4e6), q, inputs), 0, 64 * 3 * len(EVERYWHERE))


def pruned(zeros: bool) -> Several:
    """Three layers for each of `BLOCKS`, without or with a row, a block and a matrix of zeros."""
    torch.manual_seed(0)
    r = random.Random(0)
    chains = [Chain(r, [40, 5, 4, 3]) for _ in BLOCKS]
    for chain in chains if zeros else ():
        first, second, third = (layer.weight.data for layer in chain.layers)
        first[3], first[1, :32], second[0], third[:] = 0, 0, 0, 0
    return Several(chains, [1] * len(chains)).eval()


@pytest.mark.parametrize("of", ["weight", "input"])
def test_zeros_add_nothing_whatever_the_scale_of_their_block(tmp_path: Path, of: str):
    """Rows, blocks and matrices of zeros are exact, and widen no accumulator; nor do inputs of
    zeros, in the calibration too."""
    inputs = tuple(torch.randn(64, 40) * (torch.rand(64, 1) < 0.9) for _ in BLOCKS)
    for x in inputs:
        x[:9, :16] = 0
    graphs = [quire.capture(pruned(zeros), inputs) for zeros in (False, True)]
    plan = quire.Plan.uniform(graphs[0], "mxint8")
    for i, format in enumerate(map(parse, BLOCKS)):
        assert isinstance(format, Block)
        if of == "weight" or isinstance(format.scale, Pow2):
            plan.update({f"networks.{i}.layers.{k}.{of}": Entry(format) for k in range(3)})
    data = inputs if of == "weight" else tuple(0 * x for x in inputs)
    plan = plan.for_hardware(graphs[0], data, quiet=True)
    bits: list[list[int]] = []
    for graph in graphs:
        q = quire.quantize(graph, plan)
        design = quire.emit(q, tmp_path, rate=1e6)
        bits.append([int(n) for n in re.findall(r"accumulator (\d+) bits", str(design))])
    assert len(bits[0]) == len(bits[1]) == 3 * len(BLOCKS)
    assert [few for few, many in zip(bits[1], bits[0], strict=True) if few > many] == []
    check(Case(design, q, inputs), 0, 64 * 3 * len(BLOCKS))


@pytest.mark.parametrize(
    ("model", "shape", "lanes"),
    [
        # The input moves at the pace of the converter to one lane unless a queue stands before it.
        (Residual(random.Random(0), 7, 7), (4, 7), {"up": (3, 5), "down": (3, 1)}),
        # The sums of `all` leave faster than rows of other lengths are made of them.
        (Flattened(3, 6, 3, 3), (3, 3), {"each": (1, 2), "all": (1, 5), "last": (2, 2)}),
    ],
    ids=["residual", "flattened"],
)
def test_no_step_waits_for_the_one_behind_it(
    tmp_path: Path, model: nn.Module, shape: Shape, lanes: Lanes
):
    x = torch.randn(200, *shape, generator=torch.Generator().manual_seed(0))
    graph = quire.capture(model.eval(), (x[:2],))
    plan = quire.Plan.uniform(graph, "fixed(6,4)").for_hardware(graph, (x,), quiet=True)
    q = quire.quantize(graph, plan)
    check(Case(quire.emit(q, tmp_path, lanes), q, (x,)), 0, 1000)


def check_sources(design: Design) -> None:
    """No tool has anything to say: Verilator, slang, and Yosys without its slang front end."""
    assert design.folder is not None
    lint(design.folder)
    sources = " ".join(Emitted.read(design.folder).sources)
    script = f"read_verilog -sv {sources}\nhierarchy -check -top {design.name}\n"
    log = design.folder / "logs" / "yosys.log"
    run_yosys(script, design.folder, log)
    warnings = [line for line in log.read_text().splitlines() if "Warning" in line]
    # The pipelines of quire_linear, which Yosys takes for memories at first.
    assert all("Replacing memory" in line for line in warnings)


@pytest.mark.parametrize(("of", "first"), [("weight", 0), ("weight", 10), ("input", 0)])
def test_sources_of_every_family_are_clean(tmp_path: Path, of: str, first: int):
    r = random.Random(first)
    families = {"weight": WEIGHTS, "input": ACTIVATIONS}[of][first : first + 10]
    torch.manual_seed(0)
    model = Several([Chain(r, [7, 5, 3]) for _ in families], [1] * len(families)).eval()
    graph = quire.capture(model, (torch.randn(2, 7),) * len(families))
    plan = random_plan(r, graph)
    for i, family in enumerate(families):
        for layer in range(2):
            site = f"networks.{i}.layers.{layer}.{of}"
            plan[site] = family(r) if of == "weight" else activation(r, [family])
    q = quire.quantize(graph, plan)
    check_sources(quire.emit(q, tmp_path, random_lanes(r, q)))


# ------------------------------------------------------------------------------------- faults
@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A design of two layers that simulates without a difference."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    graph = quire.capture(model, (torch.randn(2, 8),))
    entry = next(s.name for s in quire.sites(graph).values() if s.role == "input")
    q = quire.quantize(
        graph, quire.Plan.uniform(graph, "fixed(8,5)") | {entry: Entry.of("fixed(8,5)")}
    )
    folder = tmp_path_factory.mktemp("whole") / "design"
    design = quire.emit(q, folder, {"0": (4, 2), "2": (2, 2)})
    case = Case(design, q, (torch.randn(50, 8),))
    assert design.simulate(*case.inputs).compared == 200
    return case


@pytest.fixture
def copy(whole: Case, tmp_path: Path) -> Case:
    """The same design in a folder of its own, to break it."""
    assert whole.design.folder is not None
    folder = tmp_path / "design"
    shutil.copytree(whole.design.folder, folder)
    return replace(whole, design=replace(whole.design, folder=folder))


def edit(case: Case, path: str, pattern: str, replacement: str) -> None:
    assert case.design.folder is not None
    file = case.design.folder / path
    text, count = re.subn(pattern, replacement, file.read_text(), count=1)
    assert count == 1
    file.write_text(text)


def failure(case: Case) -> str:
    with pytest.raises(HardwareError) as caught:
        case.design.simulate(*case.inputs)
    return str(caught.value)


def test_one_flipped_bit_of_a_weight_is_blamed_on_its_layer(copy: Case):
    weights = next(m for m in copy.design.memories if m.name.endswith("2__weight"))
    flipped = f"{weights.words[0] ^ 1 << 5:0{-(-weights.bits // 4)}x}"
    edit(copy, weights.file, "^[0-9a-f]+", flipped)
    message = failure(copy)
    assert message.startswith(f"stage {copy.design.stages[-1].name}: sample ")
    assert "in the exact graph" in message


def test_two_swapped_lanes_are_blamed_on_their_layer(copy: Case):
    first = copy.design.stages[0]
    lanes = r"\.in_sig_i\((\w+)\)"
    swapped = r".in_sig_i({\1[16 +: 16], \1[0 +: 8], \1[8 +: 8]})"
    edit(copy, f"rtl/{first.module}.sv", lanes, swapped)
    assert failure(copy).startswith(f"stage {first.name}: sample ")


def test_a_dropped_beat_is_found(copy: Case):
    taken = r"\.in_valid_i\(tvalid_i\)"
    edit(copy, "rtl/quire_axis_in.sv", taken, ".in_valid_i(tvalid_i && !last)")
    message = failure(copy)
    assert "no beat moved" in message
    assert "ready without valid: s_axis" in message


def test_a_missing_memory_is_named(copy: Case):
    assert copy.design.folder is not None
    memory = copy.design.memories[0].file
    (copy.design.folder / memory).unlink()
    message = failure(copy)
    assert memory in message
