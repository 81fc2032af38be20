"""Which tile of the Triton linear runs a case: a short list, and how the sum is split."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tile:
    """Sizes of the tile of a program along n, m and k, warps, and loads in flight."""

    n: int
    m: int
    k: int
    warps: int
    stages: int


# {rows of the activation that a tile serves at most}, ascending; the last serves any number.
TILES: tuple[tuple[int, Tile], ...] = (
    (16, Tile(64, 16, 128, 4, 4)),
    (32, Tile(64, 32, 128, 4, 3)),
    (64, Tile(64, 64, 64, 4, 4)),
    (2**31, Tile(128, 128, 64, 8, 3)),
)
# Sums of float32 products run on the CUDA cores, which want less in registers.
FLOAT32_TILES: tuple[tuple[int, Tile], ...] = (
    (16, Tile(32, 16, 64, 4, 2)),
    (2**31, Tile(64, 64, 32, 4, 2)),
)
PROGRAMS_PER_PROCESSOR = 2
MIN_STEPS = 4
"""Steps along k that a program takes at least before a sum is split further."""
MAX_SPLITS = 16


def tile_for(m: int, dtype: torch.dtype) -> Tile:
    """The tile for activations of m rows."""
    tiles = FLOAT32_TILES if dtype == torch.float32 else TILES
    return next(tile for rows, tile in tiles if m <= rows)


def splits_for(tile: Tile, m: int, n: int, k: int, processors: int) -> int:
    """Programs that share the sum of one tile of the result, so that every processor has work."""
    tiles = -(-m // tile.m) * -(-n // tile.n)
    steps = -(-k // tile.k)
    wanted = PROGRAMS_PER_PROCESSOR * processors // tiles
    return max(1, min(wanted, steps // MIN_STEPS, MAX_SPLITS))
