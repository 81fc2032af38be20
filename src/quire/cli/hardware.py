"""Commands of the hardware stream: emit, simulate, synthesise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, fields
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from quire.cli.app import TaskName, app, check_folder, out, pairs, plain_table, show, working
from quire.errors import HardwareError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import GraphModule

    from quire.explore import Task
    from quire.hardware.schedule import Lanes
    from quire.hardware.synth import Synthesis
    from quire.precision import Plan

PANEL = "Hardware"

RUN, SYNTHESIS = "logs/run.json", "synth/figures.json"
"""Where a folder keeps the figures of its last simulation and synthesis."""

PLAN, PLAN_HASH = "plan.json", "logs/plan.sha256"
"""Where it keeps the fitted plan, and what tells whether that is as `quire emit` wrote it."""

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The folder that `quire emit` wrote.")
]


@app.command(rich_help_panel=PANEL)
def emit(
    task: TaskName,
    plan: Annotated[Path, typer.Option("--plan", "-p", help="The plan file.")],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="Where the design goes; not needed with --check."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Samples a second that layers without --lanes have to reach; default: a million, "
            "or with a budget as many as it allows."
        ),
    ] = None,
    clock: Annotated[float, typer.Option(help="Hz of the clock at which they have to.")] = 200e6,
    dsp: Annotated[int | None, typer.Option(help="DSP blocks to keep within, on 7 series.")] = None,
    lut: Annotated[int | None, typer.Option(help="LUTs to keep within, as estimated.")] = None,
    bram: Annotated[int | None, typer.Option(help="Memories of 18 Kbit to keep within.")] = None,
    lanes: Annotated[
        list[str] | None,
        typer.Option(
            help="LAYER=M_IN,M_OUT: the products that a linear layer forms in a cycle, such as "
            "fc1=8,1; LAYER=unroll: its weights as constants in logic. Repeat it. Or unroll, for "
            "all layers, or auto, the default."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; list what cannot become hardware.")
    ] = False,
) -> None:
    """Turn a task's model into a folder of SystemVerilog.

    `quire emit digits:task build --plan plan.json --lanes fc1=8,1`

    The plan is first fitted to hardware with the task's calibration data; what that changes is
    printed, and the fitted plan is kept in the folder as plan.json. With --check the exit code is
    2 where an op or a format has no hardware.
    """
    from quire.explore import Task
    from quire.graph import capture
    from quire.hardware import emit as write_design
    from quire.hardware.arguments import check as check_arguments
    from quire.precision import Plan

    chosen = _chosen_lanes(lanes or [])
    wanted: dict[str, Any] = {"rate": rate, "clock": clock, "dsp": dsp, "lut": lut, "bram": bram}
    check_arguments(**wanted)
    target = None if check else _check_target(folder, plan)
    found = Task.resolve(task)
    with working("capturing the model"):
        graph = capture(found.model, found.example_inputs)
        loaded = Plan.load(plan, graph)
    adapted = loaded.for_hardware(graph, _data(found))
    q = _quantized(graph, adapted, found)
    if target is None:
        with TemporaryDirectory() as nowhere:
            design = write_design(q, nowhere, chosen, **wanted)
        out.print(f"{design}\nnothing stands in the way; nothing was written", markup=False)
        return
    with working("writing the design"):
        design = write_design(q, target, chosen, **wanted)
    adapted.save(target / PLAN)
    (target / PLAN_HASH).parent.mkdir(exist_ok=True)
    (target / PLAN_HASH).write_text(_hash(target / PLAN), encoding="utf-8")
    out.print(f"{design}\ndesign: {target}", markup=False, highlight=False)


@app.command(rich_help_panel=PANEL)
def simulate(
    task: TaskName,
    folder: Folder,
    samples: Annotated[
        int,
        typer.Option(
            min=1,
            help="Samples to run: the task's own first, then Gaussian noise of the same spread.",
        ),
    ] = 64,
    stalls: Annotated[
        float, typer.Option(help="How likely both sides pause in a cycle, from 0 to below 1.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of the pauses.")] = 0,
    probe: Annotated[
        list[str] | None,
        typer.Option(help="A stream whose values for the first sample are printed. Repeat it."),
    ] = None,
    waveform: Annotated[
        Path | None, typer.Option(help="Where a VCD file of the last 200 cycles goes.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", "-p", help="The plan; default: FOLDER/plan.json.")
    ] = None,
) -> None:
    """Simulate a design with Verilator and compare every output with the exact graph.

    `quire simulate digits:task build --samples 1000 --stalls 0.3`

    A value that differs is an error that names its stage, beat and lane. The cycles of a run
    without stalls are kept for `quire report`.
    """
    from quire.explore import Task
    from quire.graph import capture
    from quire.hardware import Design, Stalls, Waveform
    from quire.hardware.contents import check_unchanged
    from quire.hardware.summary import measured
    from quire.precision import Plan

    if waveform is not None:
        check_folder(waveform)
    pauses = Stalls(stalls, stalls)
    check_unchanged(folder)
    found = Task.resolve(task)
    with working("capturing the model"):
        graph = capture(found.model, found.example_inputs)
        q = _quantized(graph, Plan.load(plan or folder / PLAN, graph), found)
        design = Design.load(folder, q)
        inputs = _samples(q, found, samples, seed)
    run = design.simulate(
        *inputs,
        stalls=pauses,
        seed=seed,
        probe=probe or (),
        waveform=None if waveform is None else Waveform(waveform),
        progress=True,
    )
    if not stalls:
        _keep(folder, RUN, measured(run))
    out.print(str(run), markup=False, highlight=False)
    for name, values in run.probes.items():
        out.print(f"{name}, sample 0: {values[0].tolist()}", markup=False, highlight=False)


@app.command(rich_help_panel=PANEL)
def synth(
    folder: Folder,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            "-t",
            help="xc7 (7 series), xcup (UltraScale+), ecp5, or gates (two-input NANDs).",
        ),
    ] = "xc7",
    place: Annotated[
        bool, typer.Option("--place", help="Place it too, for its clock frequency (ecp5).")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds after which the tools are stopped.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Synthesise a design with Yosys: what it uses, layer by layer; kept for `quire report`.

    `quire synth build --target ecp5 --place --timeout 600`

    Ctrl-C stops the tools; what was done before is kept.
    """
    from quire.hardware import Design
    from quire.hardware.summary import synthesised

    design = Design.load(folder)
    found = design.synthesize(target, place=place, timeout=timeout, progress=True)
    _keep(folder, SYNTHESIS, synthesised(found))
    if as_json:
        print(json.dumps(asdict(found), indent=1, default=str))
        return
    show(_resources_table(found))
    if found.critical_path is not None:
        path = found.critical_path
        out.print(f"{found.frequency_mhz:.1f} MHz; slowest path: {path.source} to {path.sink}")
    out.print(f"log: {found.log}", highlight=False)


def draw_design(folder: Path, output: Path) -> None:
    """Write the page of an emitted folder, with the figures that it keeps."""
    from quire.hardware import Design
    from quire.hardware.summary import summary
    from quire.report import design_page

    kept = {"measured": _kept(folder, RUN), "synthesis": _kept(folder, SYNTHESIS)}
    design_page(summary(Design.load(folder)) | kept, output)


def _keep(folder: Path, name: str, figures: Mapping[str, Any]) -> None:
    from quire.hardware.contents import stamp

    file = folder / name
    file.parent.mkdir(exist_ok=True)
    kept = {"manifest": stamp(folder), "figures": figures}
    file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _kept(folder: Path, name: str) -> Any:
    """The figures of the design that is in the folder now; None if there are none."""
    from quire.hardware.contents import stamp

    file = folder / name
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return kept["figures"] if kept.get("manifest") == stamp(folder) else None


def _resources_table(found: Synthesis) -> Table:
    """A row for each layer and the total; the columns that the target has."""
    used = [i for i, amount in enumerate(astuple(found.total)) if amount]
    table = plain_table("layer")
    for i in used:
        table.add_column(fields(found.total)[i].name, justify="right")
    for layer, resources in [*found.layers.items(), ("total", found.total)]:
        table.add_row(layer, *(f"{astuple(resources)[i]:,.0f}" for i in used))
    return table


def _chosen_lanes(texts: Sequence[str]) -> Lanes | Literal["auto", "unroll"]:
    whole: dict[str, Literal["auto", "unroll"]] = {"auto": "auto", "unroll": "unroll"}
    if len(texts) == 1 and texts[0] in whole:
        return whole[texts[0]]
    return pairs("--lanes", texts, _to_lanes, "LAYER", "fc1=8,1") or "auto"


def _to_lanes(text: str) -> tuple[int, int] | Literal["unroll"]:
    if text == "unroll":
        return "unroll"
    try:
        m_in, m_out = map(int, text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not M_IN,M_OUT or unroll") from None
    return m_in, m_out


def _check_target(folder: Path | None, plan: Path) -> Path:
    from quire.hardware.contents import check_target

    if folder is None:
        raise HardwareError("name the folder where the design goes, or give --check")
    check_target(folder)
    kept, known = folder / PLAN, folder / PLAN_HASH
    if not kept.is_file() or kept.resolve() == plan.resolve():
        return folder
    if not known.is_file() or known.read_text(encoding="utf-8") != _hash(kept):
        raise HardwareError(
            f"'{kept}' is not as quire emit wrote it, and would be lost: give it as --plan, move "
            "it elsewhere, or name another folder"
        )
    return folder


def _hash(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _quantized(graph: GraphModule, plan: Plan, task: Task) -> GraphModule:
    """The graph with the casts of a plan, whose corrections are made on the task's data."""
    from quire.precision import correct, quantize

    if plan.has_corrections:
        graph, plan = correct(graph, plan, _data(task))
    return quantize(graph, plan)


def _data(task: Task) -> tuple[Any, ...] | Mapping[str, Any]:
    """The task's calibration data."""
    return task.example_inputs if task.calibration is None else task.calibration


def _samples(q: GraphModule, task: Task, count: int, seed: int) -> list[Tensor]:
    """`count` samples for each input of a graph: the task's, then noise of the same spread."""
    import torch

    from quire.precision.inputs import flat_inputs

    data = _data(task)
    args, kwargs = ((), dict(data)) if isinstance(data, Mapping) else (tuple(data), {})
    generator = torch.Generator().manual_seed(seed)

    def extended(x: Tensor) -> Tensor:
        lacking = (max(0, count - len(x)), *x.shape[1:])
        noise = torch.randn(lacking, generator=generator, dtype=x.dtype)
        return torch.cat([x[:count], noise * x.square().mean().sqrt()])

    return [extended(x) for x in flat_inputs(q, args, kwargs)]
