"""A design as plain data: predicted beats agree with the design's own figures."""

import json
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import quire
from quire.errors import HardwareError
from quire.hardware import Design
from quire.hardware.run import TIMED
from quire.hardware.summary import beat_times, summary


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.head = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(x + self.down(torch.relu(self.up(x)))))


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Design:
    torch.manual_seed(0)
    x = torch.randn(8, 16)
    graph = quire.capture(Residual().eval(), (x,))
    plan = quire.Plan.uniform(graph, "fixed(8,4)").for_hardware(graph, (x,), quiet=True)
    return quire.emit(quire.quantize(graph, plan), tmp_path_factory.mktemp("design"))


def test_the_first_sample_takes_the_latency_and_the_others_the_interval(design: Design) -> None:
    times = beat_times(design, TIMED)
    for stream in design.outputs:
        ends = [beats[-1] for beats in times[stream.name]]
        assert ends[0] + 1 == design.latency
        steps = [design.latency + 1, *[design.interval] * (TIMED - 2)]
        assert [b - a for a, b in pairwise(ends)] == steps


def test_beats_move_when_predicted(design: Design) -> None:
    run = design.simulate(torch.randn(TIMED + 1, 16), check=False)
    predicted = beat_times(design, TIMED)
    assert run.times.keys() == predicted.keys()
    assert {len(times) for times in run.times.values()} == {TIMED}
    converted = [s.name for stage in design.stages if stage.kind == "convert" for s in stage.reads]
    for name in predicted.keys() - {*converted}:  # which wait for the converter's room
        assert run.times[name][:2] == predicted[name][:2]
    # The source does not pause, so that samples come early; what computes keeps the interval.
    for name in ("up", "down", "add_9", "head"):
        assert run.times[name] == predicted[name]


def test_every_stage_and_stream_that_a_design_lists_is_probed(design: Design) -> None:
    listed = [stage.name for stage in design.stages] + [stream.name for stream in design.streams]
    assert listed[0] == "x__fork"
    x = torch.randn(3, 16)
    probes = design.simulate(x, probe=listed).probes
    assert probes.keys() == {*listed}
    for copy in ("x__fork", "x__fork_0", "x__fork_1"):
        assert torch.equal(probes[copy], probes["x"])
    with pytest.raises(HardwareError, match=r"^probe='fork' is no stream or stage: there are x__f"):
        design.simulate(x, probe=["up", "fork"])


def test_a_summary_is_json_and_names_every_stream(design: Design) -> None:
    data = json.loads(json.dumps(summary(design)))
    streams = {stream["name"]: stream for stream in data["streams"]}
    for stage in data["stages"]:
        assert {*stage["reads"], *stage["writes"]} <= streams.keys()
    assert all(len(s["times"]) == TIMED for s in streams.values())
    assert data["estimated"].keys() >= {stage["name"] for stage in data["stages"]}
    queues = [stage["queues"] for stage in data["stages"] if stage["kind"] == "fifo"]
    assert queues
    assert all(depth >= 1 for depths in queues for depth in depths)
