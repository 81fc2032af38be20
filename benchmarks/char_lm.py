"""The character language model of the examples: bits per character by average bits.

The search sees bits per character of the validation text; those of the test text are measured once,
on the fp32 model, the uniform plans, and the best plans found. All with the example's defaults.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from record import record

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import char_lm


def main() -> None:
    started = time.perf_counter()
    rows = char_lm.main()
    figures = {
        row["label"]: {metric: round(value, 4) for metric, value in row["metrics"].items()}
        for row in rows
    }
    record("char_lm", {"plans": figures, "seconds": round(time.perf_counter() - started)})


if __name__ == "__main__":
    main()
