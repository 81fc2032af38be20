"""`lower`: from a quantized graph to a netlist of stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.fx import GraphModule, Node

from quire.errors import HardwareError, QuireError
from quire.formats import Block
from quire.formats.table import Table
from quire.hardware import casts, cells
from quire.hardware.design import Design, Stage
from quire.hardware.lanes import layers_of
from quire.hardware.linear import MAX_ACCUMULATOR
from quire.hardware.lookup import WIDEST_TABLE, Chain, lookup
from quire.hardware.lowerings import LOWERINGS
from quire.hardware.names import Names, check_top, identifier
from quire.hardware.nodes import (
    ONE_CAST,
    cast_key,
    cast_name,
    check_axis,
    codes_of,
    is_size,
    layer_name,
    matrix_shape,
    needs_format,
    op_name,
    readers_of,
    redundant_casts,
    sample_shape,
)
from quire.hardware.schedule import Lanes, Layer
from quire.hardware.stage import Builder, Net
from quire.hardware.statics import Statics, cast_arguments
from quire.hardware.stream import Codes, Integers, Stream
from quire.hardware.timing import (
    PASSES_READY,
    SAMPLES,
    Step,
    departures,
    in_turns,
    joined,
    last_values,
    most_waiting,
    queue_depth,
)
from quire.hardware.unroll import LEVELS, UNROLLED
from quire.ops import op_of
from quire.precision.cast import cast


def lower(
    q: GraphModule,
    lanes: Lanes,
    *,
    name: str = "top",
    rom: str = "auto",
    max_accumulator: int = MAX_ACCUMULATOR,
    levels: int = LEVELS,
) -> Design:
    """The netlist of a quantized graph.

    q: a graph from `quantize`. lanes: for each linear layer, as `lanes_for` makes them.
    name: of the top module. rom: where weights go, "block", "logic" or "auto" (by size).
    max_accumulator: bits of the widest exact sum. levels: adders in a row between two registers of
    an unrolled layer.

    Raises HardwareError, before anything is made, that lists every node that cannot be lowered
    with its path and what would be supported.
    """
    check_top(name)
    options = q, Statics(q), lanes, rom, max_accumulator, levels
    pace = max((_cycles(layer, lanes) for layer in layers_of(q)), default=1)
    design = Lowering(*options, pace).run(name)
    if design.interval > pace:  # another stage sets it than a layer: queues are made for it
        design = Lowering(*options, design.interval).run(name)
    return design


@dataclass(frozen=True)
class _Failed:
    """Stands for the result of a node that could not be lowered; what reads it is not blamed."""


class Lowering:
    """One pass over the graph; a value is a net that is still open, or streams for its readers."""

    def __init__(
        self,
        q: GraphModule,
        statics: Statics,
        lanes: Lanes,
        rom: str,
        widest: int,
        levels: int,
        pace: int,
    ) -> None:
        self.q = q
        self.lanes = lanes
        self.rom = rom
        self.max_accumulator = widest
        self.levels = levels
        self.statics = statics
        self.stages: list[Stage] = []
        self.inputs: list[Stream] = []
        self.outputs: list[Stream] = []
        self.problems: dict[str, None] = {}
        self.values: dict[Node, Any] = {}
        # When beats come, of SAMPLES samples, one each `pace` cycles: the last in steady state.
        self.arrivals: dict[str, list[int]] = {}
        self.alias = redundant_casts(q, self.statics)
        self.readers = readers_of(q, self.alias, self.statics)
        self.pace = pace
        self.names = Names()
        self.depths: dict[str, int] = {}

    def run(self, name: str) -> Design:
        """The design, of this name."""
        for node in self.q.graph.nodes:
            if node.op == "output":
                self._outputs(node)
            elif node not in self.statics and node not in self.alias and not is_size(node):
                self.values[node] = self._lowered(node)
        if self.problems:
            listed = "\n".join(f"  {problem}" for problem in self.problems)
            raise HardwareError(f"the graph cannot become hardware:\n{listed}")
        return Design(name, tuple(self.inputs), tuple(self.outputs), tuple(self.stages))

    def _lowered(self, node: Node) -> Any:
        if any(isinstance(self.value(n), _Failed) for n in node.all_input_nodes):
            return _Failed()
        try:
            return self._shared(node, self._lower(node))
        except QuireError as error:
            path = node.meta.get("quire_path") or node.name
            self.problems[f"{path}: {error}"] = None
            return _Failed()

    def _lower(self, node: Node) -> Any:
        if node.op == "placeholder":
            return self._input(node)
        if node.target is cast:
            return self._cast(node)
        op = op_of(node)
        if op is not None and op.name in LOWERINGS:
            return LOWERINGS[op.name](self, node)
        if op is not None and any(operand.role == "unary" for operand in op.operands):
            return self._unary(node)
        raise HardwareError(
            f"{node.target if op is None else op.name} has no hardware: there are linear layers, "
            f"functions of one number, {', '.join(sorted(LOWERINGS))}, and casts"
        )

    # ------------------------------------------------------------------------------- values
    def value(self, node: Node) -> Any:
        """What a node was lowered to; None for a static one."""
        return self.values.get(self.source(node))

    def source(self, node: Node) -> Node:
        """The node whose value this is: a cast to the format that it has already is none."""
        while node in self.alias:
            node = self.alias[node]
        return node

    def open(self, node: Node, name: str, kind: str) -> Net:
        """The value of a node as a net: the open one, or a new stage that reads its stream."""
        value = self.value(node)
        if isinstance(value, Net):
            return value if kind == "cast" else _settled(value)
        if isinstance(value, list):
            return self.builder(name, kind).read(value.pop(0))
        raise HardwareError(needs_format(node))

    def stream(self, node: Node, lanes: int | None = None) -> Stream:
        """The value of a node as a stream that ends its stage, with so many lanes."""
        value = self.value(node)
        if isinstance(value, list):
            return self.with_lanes(value.pop(0), lanes)
        if isinstance(value, Net):
            value = _settled(value)
            return self.close(self.converted(value, lanes or value.lanes), self.source(node).name)
        raise HardwareError(needs_format(node))

    def builder(self, name: str, kind: str) -> Builder:
        return Builder(self.names.free(name), kind)

    def close(self, net: Net, node: str) -> Stream:
        """End a stage with a register."""
        net = _settled(net)
        depth = self.ready_depth(net.builder) if net.builder.kind != UNROLLED else 0
        return self.finish(net.builder, [cells.registered(net, depth)], node)[0]

    def ready_depth(self, builder: Builder) -> int:
        """Stages in a row, up to this one, through which ready passes."""
        if any(step.kind not in PASSES_READY for step in builder.steps):
            return 0
        made = {s.name: stage for stage in self.stages for s in stage.writes}
        return 1 + max(
            (self.depths.get(made[s.name].name, 0) for s in builder.reads if s.name in made),
            default=0,
        )

    def finish(self, builder: Builder, nets: list[Net], node: str) -> list[Stream]:
        """End a stage whose nets are registered or pass through, and connect them to its ports."""
        names = [builder.name]
        if len(nets) > 1:
            names = [self.names.free(f"{builder.name}_{i}") for i in range(len(nets))]
        writes = [net.stream(name, node) for net, name in zip(nets, names, strict=True)]
        for i, net in enumerate(nets):
            builder.drive_output(i, net)
        stage = builder.finish(writes)
        cut = any(instance.cell == "quire_slice" for instance in stage.instances)
        self.depths[stage.name] = 0 if cut else self.ready_depth(builder)
        busiest = max(s.beats for s in (*stage.reads, *stage.writes))
        stage = replace(stage, interval=max(stage.interval, busiest))
        self.stages.append(stage)
        leaving = departures(stage.steps, [self.arrivals[s.name] for s in stage.reads])
        self.arrivals.update({s.name: leaving for s in writes})
        return writes

    def _shared(self, node: Node, value: Any) -> Any:
        """A value with several readers, as one stream for each."""
        count = len(self.readers[node])
        if isinstance(value, Chain):
            if count > 1:
                raise HardwareError(ONE_CAST)
            return value
        if count <= 1:
            return value
        stream = value.pop(0) if isinstance(value, list) else self.close(value, node.name)
        builder = self.builder(f"{stream.name}__fork", "fork")
        return self.finish(builder, cells.fork(builder.read(stream), count), stream.node)

    # ---------------------------------------------------------------------- inputs, outputs
    def _input(self, node: Node) -> list[Stream]:
        """The host encodes an input: its casts tell the format."""
        casts = self.readers[node]
        keys = {cast_key(reader) for reader in casts}
        if len(keys) != 1 or None in keys:
            raise HardwareError(
                "the input has no format of its own: give the site input.<name> an entry, as "
                "plan.for_hardware(graph, calibration) does"
            )
        self.alias.update(dict.fromkeys(casts, node))
        self.readers[node] = [reader for found in casts for reader in self.readers[found]]
        found = casts[0]
        codes = codes_of(found)
        codes.check()
        check_axis(found)
        shape = sample_shape(node)
        lanes = self.wanted(node, codes, shape[-1])
        name = self.names.free(identifier(node.name))
        stream = Stream(name, shape, lanes, codes, found.name)
        self.inputs.append(stream)
        starts = range(1, SAMPLES * self.pace, self.pace)
        self.arrivals[stream.name] = [t + i for t in starts for i in range(stream.beats)]
        return [stream]

    def _outputs(self, node: Node) -> None:
        results = node.args[0]
        assert isinstance(results, tuple | list)
        for i, result in enumerate(results):
            if not isinstance(result, Node) or result in self.statics:
                self.problems[f"output.{i}: it does not depend on the inputs"] = None
            elif not isinstance(self.value(result), _Failed):
                try:
                    self.outputs.append(self.stream(result))
                except QuireError as error:
                    self.problems[f"output.{i}: {error}"] = None

    # ------------------------------------------------------------------------------- lanes
    def wanted(self, node: Node, values: Integers | Codes, row: int) -> int:
        """The lanes that the first reader of a node asks for; for blocks a legal number."""
        lanes = self._asked(node)
        legal = cells.lane_choices(values, row)
        if lanes is None:
            return max((n for n in legal if n <= 4), default=1)
        return max(n for n in legal if n <= lanes)

    def with_lanes(self, stream: Stream, lanes: int | None) -> Stream:
        """A stream with another number of lanes, through a converter."""
        if lanes is None or lanes == stream.lanes:
            return stream
        if lanes < stream.lanes:
            stream = self.evened(stream, -(-stream.lanes // lanes))
        builder = self.builder(f"{stream.name}__convert", "convert")
        return self.close(cells.converted(builder.read(stream), lanes), stream.node)

    def balanced(self, streams: list[Stream], lanes: int) -> list[Stream]:
        """Streams that are joined beat by beat, with so many lanes: each that runs ahead waits in a
        queue, while its beats are still few."""
        taken = joined([self._converted(stream, lanes) for stream in streams])
        return [
            self.with_lanes(self._queued(stream, _kept(stream, lanes, taken)), lanes)
            if lanes < stream.lanes
            else self._queued(self.with_lanes(stream, lanes), taken)
            for stream in streams
        ]

    def _converted(self, stream: Stream, lanes: int) -> list[int]:
        """When the beats of a stream would arrive with another number of lanes."""
        times = self.arrivals[stream.name]
        steps = (Step("convert", (stream.lanes, lanes, stream.row)), Step("delay", (1,)))
        return times if lanes == stream.lanes else departures(steps, [times])

    def taking_turns(self, streams: list[Stream], lanes: int) -> list[Stream]:
        """Streams of which a row of each is taken in turn and packed into `lanes`: a queue on each
        that has to wait."""
        arrivals = [self.arrivals[s.name] for s in streams]
        sizes = [size for s in streams for size in (s.lanes, s.row)]
        taken = in_turns(arrivals, lanes, *sizes)
        return [self._queued(stream, at) for stream, at in zip(streams, taken, strict=True)]

    def _queued(self, stream: Stream, taken: list[int]) -> Stream:
        n = stream.beats  # of the last sample
        depth = queue_depth(self.arrivals[stream.name][-n:], taken[-n:], self.pace)
        if depth <= 1:
            return stream
        return self.queue(stream, depth + 2)

    def evened(self, stream: Stream, cycles: int) -> Stream:
        """A queue where beats come unevenly to what takes each in `cycles` cycles: without one, the
        layer before or another branch would wait, and no sample could make up for it."""
        waiting = most_waiting(self.arrivals[stream.name], cycles)
        needed = waiting > 1 and not self.is_queued(stream)
        return self.queue(stream, waiting + 1) if needed else stream

    def converted(self, net: Net, lanes: int) -> Net:
        """A net with another number of lanes; a queue before a converter to fewer of them."""
        cycles = -(-net.lanes // lanes)
        return cells.converted(self.evened_net(net, cycles) if cycles > 1 else net, lanes)

    def evened_net(self, net: Net, cycles: int) -> Net:
        """As `evened`, of a net within its stage."""
        reads = net.builder.reads
        if not net.builder.steps and len(reads) == 1 and self.is_queued(reads[0]):
            return net
        times = departures(net.builder.steps, [self.arrivals[s.name] for s in reads])
        waiting = most_waiting(times, cycles)
        return cells.fifo(net, waiting + 1) if waiting > 1 else net

    def is_queued(self, stream: Stream) -> bool:
        """Whether a stream comes from a queue."""
        return any(stage.kind == "fifo" and stream in stage.writes for stage in self.stages)

    def queue(self, stream: Stream, depth: int) -> Stream:
        builder = self.builder(f"{stream.name}__fifo", "fifo")
        return self.finish(builder, [cells.fifo(builder.read(stream), depth)], stream.node)[0]

    def input_major(self, stream: Stream) -> bool:
        """The schedules alternate, so that each pair of layers overlaps."""
        made = {s.name: stage for stage in self.stages for s in stage.writes}
        while stream.name in made:
            stage = made[stream.name]
            kinds = {step.kind for step in stage.steps}
            if kinds & {"input-major", "output-major"}:
                return "output-major" in kinds
            stream = stage.reads[0]
        return False

    def concatenated(self, node: Node, parts: list[Node]) -> Net:
        """The parts one after the other along the last axis, two at a time."""
        name = op_name(node)
        net: Net | None = None
        for k, part in enumerate(parts[1:]):
            first = self.stream(parts[0]) if net is None else self.close(net, "")
            second = self.stream(part)
            lanes = self.wanted(node, Integers(0, 0, 0), first.row + second.row)
            streams = self.taking_turns([first, second], lanes)
            builder = self.builder(f"{name}_{k + 1}" if k else name, "concat")
            a, b = (builder.read(stream) for stream in streams)
            net = cells.concatenated(a, b, lanes)
            builder.interval = sum(stream.beats for stream in streams)
        assert net is not None
        return net

    def _asked(self, node: Node) -> int | None:
        for reader in self.readers.get(node, []):
            op = op_of(reader)
            if op is not None and op.name == "linear":
                return self.lanes_of(reader)[0]
            if reader.op != "output":
                found = self._asked(reader)
                if found is not None:
                    return found
        return None

    def lanes_of(self, node: Node) -> tuple[int, int]:
        """(M_in, M_out) of a linear layer; unrolled, the whole matrix."""
        lanes = self.lanes[layer_name(node)]
        return matrix_shape(node) if lanes == "unroll" else lanes

    def nonnegative(self, node: Node) -> bool:
        """Whether a value is max(0, x), as rounded: a cast keeps the sign."""
        while node.target is cast:
            zero = codes_of(node).element.quantize(torch.zeros(1))
            if float(zero) < 0:
                return False
            node = cast_arguments(node)[0]
        op = op_of(node)
        return op is not None and op.name == "relu"

    # ------------------------------------------------------------------------------- casts
    def _cast(self, node: Node) -> Any:
        source, _, _, _ = cast_arguments(node)
        codes, name = codes_of(node), cast_name(node)
        codes.check()
        check_axis(node)
        value = self.value(source)
        if isinstance(value, Chain):
            if codes.format.is_block:
                raise HardwareError(needs_format(source))
            return lookup(value, codes, node)
        net = self.open(source, name, "cast")
        if not isinstance(codes.format, Block | Table):
            return casts.scalar_cast(net if net.rectified else cells.to_integers(net), codes)
        net = cells.to_integers(net)
        if isinstance(codes.format, Table):
            return casts.threshold_cast(net, codes)
        if codes.dynamic_scale is not None:
            lanes = self.wanted(node, codes, net.shape[-1])
            return casts.block_cast(self.converted(net, lanes), codes)
        return casts.threshold_cast(net, codes)

    def _unary(self, node: Node) -> Chain:
        """A function of one number: evaluated over all codes when a cast says what it becomes."""
        source, *others = node.all_input_nodes
        if others:
            raise HardwareError(
                f"{node.target} reads a second tensor: a table is a function of one number"
            )
        value = self.value(source)
        if isinstance(value, Chain):
            return replace(value, nodes=(*value.nodes, node))
        name = identifier(node.meta["quire_path"])
        net = self.open(source, name, "table")
        values = net.values
        if isinstance(values, Integers) or values.format.is_block or values.bits > WIDEST_TABLE:
            raise HardwareError(
                f"its input is {values}: a table needs a scalar format of at most {WIDEST_TABLE} "
                "bits at its input site, as plan.for_hardware(graph, calibration) gives it"
            )
        return Chain(net, (node,))


def _kept(stream: Stream, lanes: int, taken: list[int]) -> list[int]:
    """How long each beat of a stream is needed whose values are taken in beats of fewer lanes."""
    return last_values(taken, lanes, SAMPLES * stream.rows, stream.lanes, stream.row)


def _cycles(layer: Layer, lanes: Lanes) -> int:
    """Cycles a sample of a layer with its lanes."""
    pair = lanes[layer.name]
    return layer.rows if pair == "unroll" else layer.interval(*pair)


def _settled(net: Net) -> Net:
    """A net whose max(0, x) is done."""
    return cells.to_integers(net) if net.rectified else net
