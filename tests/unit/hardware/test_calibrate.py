"""What `make calibrate` measures together."""

import re

from quire.hardware.calibrate import RTL, groups
from quire.hardware.sweeps import SWEEPS


def test_no_cell_is_measured_beside_one_that_it_contains():
    found = groups(list(SWEEPS))
    assert sorted(cell for group in found for cell in group) == sorted(SWEEPS)
    for group in found:
        for cell in group:
            named = set(re.findall(r"\bquire_\w+\b", (RTL / f"{cell}.sv").read_text()))
            assert named.isdisjoint(set(group) - {cell}), cell
