"""The configurations of `mx_linear` that are measured; `table.json` says which runs when."""

from quire.software.kernels.cuda.linear import Config, Warpgroups, Warps

CONFIGS: tuple[Config, ...] = (
    *(Warps(tokens=t, stages=2, splits=k, resident=3) for t in (8, 16) for k in (1, 2)),
    *(Warps(tokens=t, stages=3, splits=k, resident=2) for t in (8, 16) for k in (1, 2)),
    *(Warps(tokens=t, stages=2, warps=16) for t in (8, 16)),
    Warps(tokens=8, stages=2, resident=2, tiles=2),
    *(Warps(tokens=32, stages=2, splits=k, resident=2) for k in (1, 2)),
    Warpgroups(tokens=32, stages=4, splits=2, resident=2, groups=2),
    Warpgroups(tokens=64, stages=4, splits=2, resident=2),
    Warpgroups(tokens=64, stages=5, groups=2),
    Warpgroups(tokens=64, stages=6, splits=2, groups=2),
    Warpgroups(tokens=128, stages=3, groups=2),
    Warpgroups(tokens=128, stages=4, shares=2),
    Warpgroups(tokens=160, stages=5, groups=3, chunks=1),
    *(Warpgroups(tokens=256, stages=s, groups=2, chunks=1) for s in (4, 5)),
    Warpgroups(tokens=256, stages=5, groups=2, chunks=1, shares=2),
)
