"""Draws `tiled-layout.svg`: the A fragment of m16n8k16 by CuTe's layout, and the bits of a word.

python docs/figures/tiled_layout.py
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

# CuTe, mma_traits_sm80.hpp: (thread, value) -> row + 16 column; the leftmost mode is the fastest.
SHAPE, STRIDE = ((4, 8), (2, 2, 2)), ((32, 1), (16, 8, 128))
CELL, LEFT, TOP = 30, 46, 64
COLOURS = ("#d8e8f8", "#f8e6cc", "#dcefd8", "#f0dcee")
WORD = (
    ("MxInt8", ((1, "s k"), (7, "|k+8|"), (1, "s k+8"), (7, "|k|"))),
    (
        "MxInt4",
        ((1, "s k"), (4, "r+8, k+8"), (3, "|k+8|"), (1, "s k+8"), (4, "r+8, k"), (3, "|k|")),
    ),
)


def offset(mode: int, index: int) -> int:
    """What an index of a mode adds, the leftmost part of the index fastest."""
    total = 0
    for size, step in zip(SHAPE[mode], STRIDE[mode], strict=True):
        index, part = divmod(index, size)
        total += part * step
    return total


def text(x: float, y: float, words: str, size: int = 12, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}">{words}</text>'


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}" stroke="#888"/>'


def fragment() -> list[str]:
    """The 16 x 16 values of a step: in each cell the thread, below it the value's number."""
    drawn = [text(LEFT, 20, "A of m16n8k16: thread and value of each element", 14, "start")]
    drawn += [text(LEFT + (k + 0.5) * CELL, TOP - 8, str(k)) for k in range(16)]
    drawn += [text(LEFT - 16, TOP + (r + 0.6) * CELL, str(r)) for r in range(16)]
    for thread, value in product(range(32), range(8)):
        column, row = divmod(offset(0, thread) + offset(1, value), 16)
        x, y = LEFT + column * CELL, TOP + row * CELL
        drawn += [box(x, y, CELL, CELL, COLOURS[thread % 4])]
        drawn += [text(x + CELL / 2, y + 14, f"T{thread}", 10)]
        drawn += [text(x + CELL / 2, y + 25, f"a[{value // 2}]", 8)]
    return drawn


def words() -> list[str]:
    """The bits of half a word of each coding."""
    top, unit, drawn = TOP + 16 * CELL + 50, CELL, list[str]()
    for name, fields in WORD:
        drawn.append(text(LEFT, top - 6, f"half a word of {name}, bit 15 first", 12, "start"))
        x = LEFT
        for index, (bits, label) in enumerate(fields):
            drawn.append(box(x, top, bits * unit, 26, COLOURS[index % len(COLOURS)]))
            drawn.append(text(x + bits * unit / 2, top + 17, label, 9))
            x += bits * unit
        top += 62
    return drawn


def main() -> None:
    height, width = TOP + 16 * CELL + 150, LEFT + 16 * CELL + 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" font-family="sans-serif">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    )
    svg = "\n".join([head, *fragment(), *words(), "</svg>\n"])
    Path(__file__).with_name("tiled-layout.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
