"""Tables: the look-up of compiled GPU code gives the entries that rounding gives."""

import math

import pytest
import torch

from quire.formats.table import TABLES, THRESHOLDS, Table, looked_up

# Raised inside torch while its compiler is first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("device", ["cpu", *["cuda"] * torch.cuda.is_available()])
def test_a_look_up_gives_the_nearest_entry(name, device):
    edges = [*THRESHOLDS[name, torch.float32], *((i + 0.5) / 16 for i in range(-16, 16))]
    neighbours = [torch.tensor(edges).nextafter(torch.tensor(end)) for end in (-math.inf, math.inf)]
    random = torch.empty(1 << 20).uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    x = torch.cat([torch.tensor([*edges, -1.0, 1.0, 0.0, -0.0]), *neighbours, random])
    beyond = torch.tensor([1.5, 1.97, 2.0, 3.0, 1e30, math.inf])
    x = torch.cat([x, beyond, -beyond])
    assert torch.equal(looked_up(name, x.to(device)).cpu(), Table(name).round(x))
    compiled = torch.compile(_look_up_twice, fullgraph=True)
    for found, y in zip(compiled(name, x.to(device)), (x, -x), strict=True):
        assert torch.equal(found.cpu(), Table(name).round(y))


def _look_up_twice(name, x):
    """One graph, in which the table is a constant twice."""
    return looked_up(name, x), looked_up(name, -x)
