"""A design as JSON in its folder, and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.fx import GraphModule

from quire.errors import HardwareError
from quire.hardware.contents import check_unchanged
from quire.hardware.design import Design, Instance, Memory, Stage, Wire
from quire.hardware.manifest import values_from_json, values_json
from quire.hardware.reference import check_graph
from quire.hardware.stream import Stream
from quire.hardware.timing import Step

FILE = "design.json"


def design_json(design: Design) -> str:
    """The records of a design; the words of its memories are in their files."""
    data = {
        "name": design.name,
        "inputs": [_stream_json(stream) for stream in design.inputs],
        "outputs": [_stream_json(stream) for stream in design.outputs],
        "stages": [_stage_json(stage) for stage in design.stages],
    }
    return json.dumps(data, indent=1) + "\n"


def _stream_json(stream: Stream) -> dict[str, Any]:
    return {
        "name": stream.name,
        "shape": stream.shape,
        "lanes": stream.lanes,
        "values": values_json(stream.values),
        "node": stream.node,
    }


def _stage_json(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "kind": stage.kind,
        "reads": [_stream_json(stream) for stream in stage.reads],
        "writes": [_stream_json(stream) for stream in stage.writes],
        "wires": [asdict(wire) for wire in stage.wires],
        "instances": [asdict(instance) for instance in stage.instances],
        "memories": [{"name": m.name, "bits": m.bits, "style": m.style} for m in stage.memories],
        "assigns": stage.assigns,
        "interval": stage.interval,
        "steps": [asdict(step) for step in stage.steps],
        "detail": stage.detail,
        "sum_bits": stage.sum_bits,
    }


def load(folder: Path, graph: GraphModule | None) -> Design:
    """See `Design.load`."""
    check_unchanged(folder)
    try:
        data = json.loads((folder / FILE).read_text(encoding="utf-8"))
        design = Design(
            data["name"],
            tuple(_stream(s) for s in data["inputs"]),
            tuple(_stream(s) for s in data["outputs"]),
            tuple(_stage(folder, s) for s in data["stages"]),
            folder.resolve(),
            graph,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HardwareError(
            f"'{folder}' is not a folder that quire.emit wrote, or it was changed: {error}"
        ) from None
    if graph is not None:
        check_graph(graph, design.inputs, design.outputs)
    return design


def _stream(data: dict[str, Any]) -> Stream:
    return Stream(
        data["name"],
        tuple(data["shape"]),
        data["lanes"],
        values_from_json(data["values"]),
        data["node"],
    )


def _stage(folder: Path, data: dict[str, Any]) -> Stage:
    return Stage(
        data["name"],
        data["kind"],
        tuple(_stream(s) for s in data["reads"]),
        tuple(_stream(s) for s in data["writes"]),
        tuple(Wire(**wire) for wire in data["wires"]),
        tuple(
            Instance(i["cell"], i["name"], _pairs(i["parameters"]), _pairs(i["ports"]))
            for i in data["instances"]
        ),
        tuple(_memory(folder, memory) for memory in data["memories"]),
        _pairs(data["assigns"]),
        data["interval"],
        tuple(Step(step["kind"], tuple(step["numbers"])) for step in data["steps"]),
        data["detail"],
        data["sum_bits"],
    )


def _pairs(data: list[list[Any]]) -> tuple[tuple[Any, Any], ...]:
    return tuple((first, second) for first, second in data)


def _memory(folder: Path, data: dict[str, Any]) -> Memory:
    empty = Memory(data["name"], data["bits"], (), data["style"])
    words = (folder / empty.file).read_text(encoding="utf-8").split()
    return Memory(data["name"], data["bits"], tuple(int(word, 16) for word in words), data["style"])
