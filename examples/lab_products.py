"""Lab: which of the eight products of a transformer layer tolerates the fewest bits.

For each product of the digits ViT and each width of MXInt: the KL divergence from the outputs of
the fp32 model where only that product's two operands have the width, taken as the sum of what each
operand does alone (`quire.sensitivity`). The projections q, k and v read one tensor, which has one
format: its part counts in each of the three.
"""

from math import log10, nan
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer
from digits import task
from figure import heat_map, table

import quire

WIDTHS = range(2, 9)
FORMATS = [f"mxint{width}" for width in WIDTHS]
TOLERANCE = 0.001  # KL, nats an image


def divergences(found: quire.Task, storage: str) -> dict[str, list[float]]:
    """{product: KL at each width}, in the order of the model."""
    graph = quire.capture(found.model, found.example_inputs)
    operands = [site for site in quire.sites(graph).values() if site.is_operand]
    inside = [site for site in operands if site.name.startswith("layers.")]
    names = [site.name for site in inside]
    measured = quire.sensitivity(found, FORMATS, sites=names, storage=storage, prune=())
    sums: dict[str, list[float]] = {}
    for site in inside:
        product, own = site.name.rpartition(".")[0], measured.values[site.tie]
        sums.setdefault(product, [0.0] * len(FORMATS))
        sums[product] = [a + own[format] for a, format in zip(sums[product], FORMATS, strict=True)]
    return sums


def fewest(values: list[float]) -> float:
    """The least width whose divergence is within the tolerance."""
    return next((w for w, v in zip(WIDTHS, values, strict=True) if v <= TOLERANCE), nan)


def main(seed: int = 0, epochs: int = 80, out: Path = Path("runs/lab_products.html")) -> None:
    """Train, measure, print the fewest bits within the tolerance, and draw the divergences."""
    torch.set_num_threads(1)  # the tensors are too small to share
    with TemporaryDirectory() as folder:
        found = task(seed, epochs, Path(folder) / "fp32.safetensors")
        sums = divergences(found, f"{folder}/sensitivities.journal")
    rows = {product: [fewest(values), values[2], values[4]] for product, values in sums.items()}
    columns = ["fewest bits", f"KL at {WIDTHS[2]} bits", f"KL at {WIDTHS[4]} bits"]
    table(rows, columns, f"MXInt widths that keep KL within {TOLERANCE} nats")
    logarithms = {name: [log10(max(v, 1e-12)) for v in values] for name, values in sums.items()}
    titles = ("width of both operands (bits)", "product", "log10 of KL (nats an image)")
    heat_map(logarithms, [str(width) for width in WIDTHS], titles, out)


if __name__ == "__main__":
    typer.run(main)
