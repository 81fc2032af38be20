"""What of a design is constant or unused, so that synthesis removes it.

A word that is the same in every step is no memory but a constant; so are the weights and scales of
a layer of one step. Where its lanes stay apart, a row of zeros makes a lane of its outputs
constant, and a column of zeros leaves a lane of its inputs unused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce

from quire.hardware.design import Design, Instance, Stage
from quire.hardware.elements import OPERANDS, SHIFTLESS, signed
from quire.hardware.stream import Stream

_CONSTANT = re.compile(r"\d+'h([0-9a-f]+)$")
_PART = re.compile(r"(\w+)\[(\d+) \+: (\d+)\]$")

LANEWISE = frozenset({"delay", "input-major", "output-major"})
"""Steps after which a lane is still that lane."""

Lanes = frozenset[int]


@dataclass(frozen=True)
class Removed:
    """Lanes of a stage that synthesis removes: inputs that are constant, outputs that are constant
    or that nobody uses. everything: whether no output is left."""

    inputs: Lanes = field(default_factory=Lanes)
    outputs: Lanes = field(default_factory=Lanes)
    everything: bool = False

    def left(self, lanes: int) -> list[int]:
        """Which lanes are left of those of a cell."""
        return [] if self.everything else [i for i in range(lanes) if i not in self.outputs]


def removed(design: Design) -> dict[str, Removed]:
    """What synthesis removes of each stage, by its name."""
    constant: dict[str, Lanes] = {}
    for stage in design.stages:
        given = [constant.get(stream.name, Lanes()) for stream in stage.reads]
        constant |= dict.fromkeys((s.name for s in stage.writes), _constant_outputs(stage, given))
    used = {stream.name: Lanes(range(stream.lanes)) for stream in design.outputs}
    found: dict[str, Removed] = {}
    for stage in reversed(design.stages):
        out = stage.writes[0]
        needed = Lanes().union(*(used.get(s.name, Lanes()) for s in stage.writes))
        live = needed - constant[out.name]
        if needed and not _is_lanewise(stage):
            live = Lanes(range(out.lanes))
        inputs = constant.get(stage.reads[0].name, Lanes()) if len(stage.reads) == 1 else Lanes()
        found[stage.name] = Removed(inputs, Lanes(range(out.lanes)) - live, not live)
        used |= {stream.name: _used_inputs(stage, stream, live) for stream in stage.reads}
    return found


def _constant_outputs(stage: Stage, given: list[Lanes]) -> Lanes:
    """The lanes of a stage's outputs that never change; given: those of each input."""
    is_table = any(i.cell == "quire_lookup" for i in stage.instances)  # which is always read
    if len(given) != 1 or not _is_lanewise(stage) or is_table:
        return Lanes()
    matrix = _matrix(stage)
    if matrix is None:
        return Lanes() if _linear(stage) else given[0]
    if not _is_fixed(stage):
        return Lanes()
    kept = [[w for i, w in enumerate(row) if i not in given[0]] for row in matrix]
    return Lanes(o for o, row in enumerate(kept) if not any(row))


def _used_inputs(stage: Stage, stream: Stream, live: Lanes) -> Lanes:
    """The lanes of an input that live lanes of the outputs depend on."""
    every = Lanes(range(stream.lanes))
    if not live:
        return Lanes()
    linear, matrix = _linear(stage), _matrix(stage)
    if linear is None or matrix is None:
        is_apart = len(stage.reads) == 1 and not linear and _is_lanewise(stage)
        return live if is_apart and not stream.values.beat_scale_bits else every
    outs = live if _is_lanewise(stage) else range(len(matrix))
    used = Lanes(i for i in every if any(matrix[o][i] for o in outs))
    has_scale = bool(stream.values.beat_scale_bits)
    return every if has_scale and (used or not is_shiftless(stage, linear)) else used


def _is_lanewise(stage: Stage) -> bool:
    kinds = {step.kind for step in stage.steps}
    return kinds <= LANEWISE and not any(s.values.beat_scale_bits for s in stage.writes)


def _linear(stage: Stage) -> Instance | None:
    return next((i for i in stage.instances if i.cell == "quire_linear"), None)


def _matrix(stage: Stage) -> list[list[int]] | None:
    """[output lane][input lane] weights of a layer whose steps have the same; None of any other."""
    linear = _linear(stage)
    weights = None if linear is None else constant_weights(stage, linear)
    if linear is None or weights is None:
        return None
    m_in, sigs = int(dict(linear.parameters)["M_IN"]), [sig for sig, _ in weights]
    return [sigs[first : first + m_in] for first in range(0, len(sigs), m_in)]


def _is_fixed(stage: Stage) -> bool:
    """Whether the sums of a layer are the same ones in every step, and never shifted: a shift of 0
    by a variable is no constant yet where multipliers are mapped."""
    linear = _linear(stage)
    if linear is None or not is_shiftless(stage, linear):
        return False
    p = dict(linear.parameters)
    return p["GROUPS"] == p["K_BEATS"] == p["X_SCALE_W"] == 1


def constant_weights(stage: Stage, linear: Instance) -> list[tuple[int, int]] | None:
    """(sig, shift) of the weights of a step, where all steps have the same; None else."""
    decoder = _driver(stage, dict(linear.ports)["weight_sig_i"])
    assert decoder is not None
    word = dict(decoder.ports)["code_i"]
    codes = constant(stage, word)
    if codes is None:
        return None
    parameters = dict(decoder.parameters)
    lanes = int(parameters["LANES"])
    bits = next(wire.bits for wire in stage.wires if wire.name == word) // lanes
    return [OPERANDS[decoder.cell](parameters, code) for code in fields(codes, bits, lanes)]


def is_shiftless(stage: Stage, linear: Instance) -> bool:
    """Whether the inputs of a linear layer are never shifted."""
    decoder = _driver(stage, dict(linear.ports)["in_sig_i"])
    return decoder is not None and decoder.cell in SHIFTLESS


def _driver(stage: Stage, sig: str) -> Instance | None:
    """The decoder that makes a significand."""
    return next((i for i in stage.instances if dict(i.ports).get("sig_o") == sig), None)


def fields(word: int, bits: int, count: int) -> list[int]:
    """Unsigned numbers side by side in a word, the first in the low bits."""
    return [word >> (i * bits) & ((1 << bits) - 1) for i in range(count)]


def signed_fields(word: int, bits: int, count: int) -> list[int]:
    """Two's complement numbers side by side in a word."""
    return [signed(n, bits) for n in fields(word, bits, count)]


def constant(stage: Stage, expression: str) -> int | None:
    """The value of a wire or a part of one that never changes; None where it does."""
    part = _PART.match(expression)
    name = part[1] if part else expression
    driver = next((wire.value for wire in stage.wires if wire.name == name), "")
    found = _CONSTANT.match(driver)
    if found is None:
        return None
    value = int(found[1], 16)
    return value >> int(part[2]) & ((1 << int(part[3])) - 1) if part else value


def varying_bits(stage: Stage, parameters: Mapping[str, int | bool | str]) -> int:
    """The bits of a memory that differ between its words, as a word; `parameters`: of its cell."""
    words = next(m.words for m in stage.memories if f'"{m.file}"' == parameters["FILE"])
    return reduce(int.__or__, (word ^ words[0] for word in words))
