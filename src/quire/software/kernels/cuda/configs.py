"""The configurations of `mx_linear` that are measured; `table.json` says which runs when."""

from quire.software.kernels.cuda.linear import Config, Warpgroups, Warps

CONFIGS: tuple[Config, ...] = (
    Warps(tokens=8, stages=2, splits=1, resident=3),
    Warps(tokens=16, stages=2, splits=1, resident=3),
    Warpgroups(tokens=64, stages=4, splits=2, resident=2),
    Warpgroups(tokens=128, stages=3, groups=2),
    Warpgroups(tokens=256, stages=4, groups=2, chunks=1),
)
