"""The cost model against synthesis: at the points it was fitted to, and on whole designs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import quire
from quire.formats import Scalar, parse
from quire.hardware.constants import Removed
from quire.hardware.cost import CONTEXT, estimate, total
from quire.hardware.curves import DATA, MODELS, block_memories, constant_product, products, uses
from quire.hardware.design import Design
from quire.hardware.elements import OPERANDS, decoder
from quire.hardware.lower import lower
from quire.hardware.netlist import read_netlist
from quire.hardware.sweeps import SWEEPS
from quire.hardware.targets import TARGETS
from quire.hardware.toolchain import run_yosys
from quire.precision import fit_fixed

CALIBRATION = json.loads(DATA.read_text())
POINTS = [
    (cell, point, used) for cell, points in CALIBRATION["cells"].items() for point, used in points
]


def test_every_cell_with_a_curve_is_measured_where_the_sweep_says():
    assert set(MODELS) == set(SWEEPS) == set(CALIBRATION["cells"])
    for cell, sweep in SWEEPS.items():
        assert [point for point, _ in CALIBRATION["cells"][cell]] == [dict(p) for p in sweep()]


def test_multipliers_and_block_memories_are_counted_exactly():
    wrong = [
        (cell, point, used[2:])
        for cell, point, used in POINTS
        if used[2:] != [uses(cell, point).DSP, uses(cell, point).BRAM]
    ]
    assert wrong == []


@pytest.mark.parametrize(("resource", "index", "error"), [("LUT", 0, 0.12), ("FF", 1, 0.05)])
def test_curves_follow_cells_of_some_size(resource: str, index: int, error: float):
    large = [(uses(cell, p), used[index]) for cell, p, used in POINTS if used[index] >= 100]
    assert len(large) > 50
    errors = [abs(getattr(found, resource) - used) / used for found, used in large]
    assert np.mean(errors) < error


def test_a_cell_of_wires_uses_nothing():
    assert uses("quire_decode_fixed", {"LANES": 8, "BITS": 8}) == uses("quire_decode_binary", {})
    assert uses("quire_decode_fixed", {"LANES": 8, "BITS": 8}).LUT == 0


@pytest.mark.parametrize(
    ("a", "b", "blocks"),
    [(4, 4, 0), (5, 4, 1), (8, 1, 0), (25, 18, 1), (26, 18, 2), (30, 8, 2), (18, 18, 1)],
)
def test_products_take_the_blocks_that_the_tool_takes(a: int, b: int, blocks: int):
    assert products(a, b) == products(b, a) == blocks


@pytest.mark.parametrize("bits", [4, 5, 6, 8, 12])
def test_products_with_constants_take_the_blocks_that_the_tool_takes(tmp_path: Path, bits: int):
    """Each constant by itself, and once more: what is the same product is made once."""
    constants = [*range(-11, 12), 12, -24, 40, 96, -128]
    body = "\n".join(
        f"logic signed [{bits}-1:0] x{n}; assign x{n} = x[{bits * n} +: {bits}];\n"
        f"always_ff @(posedge clk) y{n} <= {bits + 8}'(x{n}) * {bits + 8}'(signed'({c}));\n"
        f"always_ff @(posedge clk) z{n} <= {bits + 8}'(x{n}) * {bits + 8}'(signed'({c}));"
        for n, c in enumerate(constants)
    )
    ports = [f"output logic signed [{bits + 7}:0] y{n}, z{n}" for n in range(len(constants))]
    head = f"module t(input clk, input [{bits * len(constants)}-1:0] x, {', '.join(ports)});"
    (tmp_path / "t.sv").write_text(f"{head}\n{body}\nendmodule\n")
    script = "read_verilog -sv t.sv\n" + TARGETS["xc7"].script.format(top="t")
    run_yosys(script + "write_json -selected t.json\n", tmp_path, tmp_path / "log")
    cells = read_netlist(tmp_path / "t.json", "t").cells.values()
    found = sum(cell.kind == "DSP48E1" for cell in cells)
    assert found == sum(constant_product(bits, c) for c in constants) > 0


@pytest.mark.parametrize(
    ("bits", "constant", "kept", "blocks"),
    [(8, 0, 99, 0), (8, 3, 99, 1), (8, 3, 8, 0), (8, 12, 10, 0), (8, 12, 11, 1), (30, 3, 99, 2)],
)
def test_a_product_of_which_few_bits_are_used_takes_no_block(
    bits: int, constant: int, kept: int, blocks: int
):
    assert constant_product(bits, constant, kept) == blocks


@pytest.mark.parametrize("family", sorted({*OPERANDS} - {"quire_decode_table"}))
def test_what_a_decoder_makes_of_a_code_is_its_value(family: str):
    elements = {
        "binary": "binary", "dmf": "dmf(e=2,m=3)", "fixed": "fixed(5,2)", "log": "log(5)",
        "minifloat": "minifloat(e=3,m=2)", "ternary": "ternary", "ufixed": "ufixed(4,1)",
    }  # fmt: skip
    element = parse(elements[family.removeprefix("quire_decode_")])
    assert isinstance(element, Scalar)
    codes = range(2**element.bits)
    values = element.values_of(torch.tensor(codes)).tolist()
    legal = [code for code in codes if not (family.endswith("ternary") and code == 2)]
    operands = [OPERANDS[family](decoder(element).parameters, code) for code in legal]
    found = [sig * 2.0 ** (shift + element.quantum_exponent) for sig, shift in operands]
    assert found == [values[code] for code in legal]


def test_a_table_is_decoded_to_its_entries():
    element = parse('table("nf4")')
    assert isinstance(element, Scalar)
    parameters = decoder(element).parameters
    pairs = [OPERANDS["quire_decode_table"](parameters, code) for code in range(16)]
    step = 2.0**element.quantum_exponent
    assert [sig * step for sig, _ in pairs] == element.values_of(torch.arange(16)).tolist()


@pytest.mark.parametrize(
    ("width", "depth", "blocks"), [(36, 512, 1), (8, 2048, 1), (37, 512, 2), (72, 512, 2)]
)
def test_block_memories_are_the_fewest_that_hold_the_words(width: int, depth: int, blocks: int):
    assert block_memories(width, depth) == blocks


@pytest.fixture(scope="module")
def design() -> Design:
    """Two layers in fixed(8,f), 4 x 2 and 8 x 1 lanes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    x = torch.randn(32, 16)
    graph = quire.capture(model, (x,))
    plan = fit_fixed(graph, (x,), 8).for_hardware(graph, (x,), quiet=True)
    return lower(quire.quantize(graph, plan), {"0": (4, 2), "2": (8, 1)})


def test_the_cost_of_a_design_is_the_sum_of_its_layers_and_its_cycles(design: Design):
    cost = design.cost()
    assert (cost.interval, cost.latency) == (design.interval, design.latency)
    assert cost.layers == estimate(design)
    assert set(cost.layers) == {"m0", "m2", "input_1_axis_in", "m2_axis_out"}
    sums = total(cost.layers.values())
    assert (cost.LUT, cost.FF, cost.DSP, cost.BRAM) == (sums.LUT, sums.FF, sums.DSP, sums.BRAM)
    assert (cost.layers["m0"].DSP, cost.layers["m2"].DSP) == (4 * 2, 8 * 1)


def test_words_that_go_straight_to_multipliers_take_no_registers(design: Design):
    rom = {"WIDTH": 64, "DEPTH": 64, "BLOCK": 1}
    assert uses("quire_rom", rom).FF > 60
    assert uses("quire_rom", {**rom, "FEEDS_DSP": 1}).FF == 0
    stage = design.stages[0]
    weight, bias = (i for i in stage.instances if i.cell == "quire_rom")
    assert CONTEXT["quire_rom"](stage, weight, Removed())["FEEDS_DSP"] is True
    assert CONTEXT["quire_rom"](stage, bias, Removed())["FEEDS_DSP"] is False
