"""Names: what a model calls its modules and inputs never reaches the SystemVerilog as a keyword."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch
from pyslang.parsing import TokenKind  # pyright: ignore[reportMissingModuleSource]
from torch import Tensor, nn

import quire
from quire.errors import HardwareError
from quire.hardware import Design, Stalls
from quire.hardware.lint import lint
from quire.hardware.names import KEYWORDS, Names, check_top, identifier, instance_of, stage_of
from quire.hardware.toolchain import run_yosys

HOSTILE = [
    *("module", "output", "logic", "reg", "begin", "always_ff", "table", "cell"),  # keywords
    *("aclk", "aresetn", "errors", "top", "stage_top", "quire_fifo", "u_linear"),
    *("error_data", "error_axis_in", "module_stage", "s_axis_error_tdata", "error__fork_0"),
    *("a_b", "a__b", "A", "a", "été", "êtê"),
]
"""What the layers of `Hostile` are called, besides one at `a.b`."""


class Hostile(nn.Module):
    """Layers of two values whose names are keywords, those of the top, or alike."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.names = HOSTILE
        for name in self.names:
            self.add_module(name, nn.Linear(2, 2))
        self.get_submodule("a").add_module("b", nn.Linear(2, 2))

    def forward(self, error: Tensor) -> Tensor:
        x = error
        for name in self.names:
            x = getattr(self, name)(x)
        return self.get_submodule("a.b")(x) + error


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Design:
    x = (torch.randn(2, 2),)
    graph = quire.capture(Hostile().eval(), x)
    plan = {**quire.Plan.uniform(graph, "fixed(6,4)"), "input.error": "fixed(6,4)"}
    q = quire.quantize(graph, quire.Plan(plan))
    return quire.emit(q, tmp_path_factory.mktemp("hostile"), name="placed")


def test_every_tool_reads_a_design_of_hostile_names_and_it_is_exact(hostile: Design):
    folder = hostile.folder
    assert folder is not None
    lint(folder)
    reads = [f"read_verilog -sv rtl/{file.name}" for file in sorted((folder / "rtl").iterdir())]
    script = "\n".join([*reads, "hierarchy -check -top placed", "proc", "check -assert", ""])
    run_yosys(script, folder, folder / "logs" / "yosys.log")
    run = hostile.simulate(torch.randn(20, 2), stalls=Stalls(0.3, 0.3))
    assert run.compared == 40


def test_stages_are_named_after_the_paths_of_their_modules(hostile: Design):
    linear = [stage.name for stage in hostile.stages if stage.kind == "linear"]
    plain = [name for name in HOSTILE if name.isascii() and name not in ("a", "error__fork_0")]
    assert [name for name in linear if name in HOSTILE] == plain
    others = ["error__fork_0_2", "a_2", "m_t_", "m_t__2", "a__b_2"]
    assert [name for name in linear if name not in HOSTILE] == others
    files = [memory.file.lower() for memory in hostile.memories]
    assert len(set(files)) == len(files)


def test_keywords_are_those_of_the_standard():
    kinds = [name for name in dir(TokenKind) if name.endswith("Keyword")]
    assert {name.removesuffix("Keyword").lower() for name in kinds} == {
        word.replace("_", "") for word in KEYWORDS
    }
    assert len(KEYWORDS) == len(kinds) == 248


def test_no_two_kinds_of_names_meet():
    """Names of kinds that end differently differ, whatever comes before; none is a keyword."""
    wires = [f"_{wire}" for wire in ("valid", "ready", "data")]
    ports = [f"_{wire}" for wire in ("tvalid", "tready", "tdata", "tlast")]
    endings = [instance_of(""), "_axis_in", "_axis_out", *wires, *ports]
    for one, other in itertools.permutations(endings, 2):
        assert not one.endswith(other)
    fixed = ("aclk", "aresetn", "error", "errors", *KEYWORDS)
    assert not [name for name in fixed if name.endswith(tuple(endings))]
    assert not [name for name in KEYWORDS if name.startswith(("stage_", "quire_"))]


def test_a_path_becomes_an_identifier_and_a_taken_name_another():
    assert [identifier(path) for path in ("a.b", "0", "a-b", "é", "_x")] == [
        *("a__b", "m0", "a_b", "m_", "m_x")
    ]
    names = Names()
    assert [names.free(name) for name in ("a", "A", "a", "a_2")] == ["a", "A_2", "a_3", "a_2_2"]
    assert stage_of(instance_of("x_stage")) == "x_stage"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *((keyword, "is a keyword of SystemVerilog") for keyword in sorted(KEYWORDS)),
        *((n, "is not a letter, then letters") for n in ("a b", "1x", "", "../x", "a\n", "é", "_")),
        *((name, "begins like the modules below") for name in ("quire_fifo", "Stage_x")),
        *((name, "ends like names in it") for name in ("x_data", "s_axis_x_tlast", "fc_stage")),
        *((name, "is a port or a wire of the top") for name in ("aclk", "error", "errors")),
        ("std", "is a package of SystemVerilog"),
        ("TOP", "is a name that Verilator keeps for itself"),
    ],
)
def test_a_top_that_no_tool_reads_is_refused(name: str, fault: str):
    with pytest.raises(HardwareError, match=f"^name={re.escape(repr(name))} {fault}"):
        check_top(name)


def test_emit_refuses_such_a_top_before_it_writes(hostile: Design, tmp_path: Path):
    assert hostile.graph is not None
    with pytest.raises(HardwareError, match="name='module' is a keyword of SystemVerilog"):
        quire.emit(hostile.graph, tmp_path / "out", name="module")
    assert not (tmp_path / "out").exists()
