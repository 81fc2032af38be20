"""Whole networks, fast executor against exact: the share of cast values that differ, and accuracy.

The digits ViT of the examples and an MLP, on 400 validation images. After the first value that
differs the two executors work on different numbers, so a share grows with depth. Casts of weights
are left out: they are equal by construction.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import record
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.nn import functional

import quire
from quire import Plan
from quire.ops.exact_value import Exact
from quire.precision import fit_fixed
from quire.precision.cast import cast
from quire.precision.exact import ExactInterpreter

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from digits import Split, load_splits, task
from training import fit

UNIFORM = ("mxint8", "mxint4", "mxfp8_e4m3", "bl(4,scale_bits=8,size=16)")


def main() -> None:
    torch.set_num_threads(2)
    train, validation, _ = load_splits(0)
    with tempfile.TemporaryDirectory() as folder:
        models = {"ViT": task(weights=Path(folder) / "vit").model, "MLP": trained_mlp(train)}
    figures = {
        f"{name}, {label}": compare(quire.quantize(graph, plan), validation)
        for name, model in models.items()
        for graph in [quire.capture(model, (train[0][:2],))]
        for label, plan in plans(graph, train[0][:256]).items()
    }
    record("exact_share", figures)


def trained_mlp(data: Split) -> nn.Module:
    images, labels = data
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 48), nn.ReLU()),
        *(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10)),
    )

    def loss() -> Tensor:
        batch = torch.randint(len(labels), (64,))
        return functional.cross_entropy(model(images[batch]), labels[batch])

    fit(model, loss, 640)
    return model.eval()


def plans(graph: GraphModule, data: Tensor) -> dict[str, Plan]:
    """The uniform plans of the operands, and those of integers that fit the data."""
    uniform = {name: Plan.uniform(graph, name) for name in UNIFORM}
    fitted = {f"fixed({w},fitted)": fit_fixed(graph, (data,), w) for w in (8, 4)}
    return uniform | fitted


@torch.no_grad()
def compare(q: GraphModule, data: Split) -> dict[str, Any]:
    """The casts' values in both executors, and the accuracy and loss of both."""
    images, labels = data
    fast, logits = run(Interpreter(q), images)
    exact, true_logits = run(ExactInterpreter(q), images)
    assert torch.equal(true_logits, quire.exact(q)(images))
    assert torch.equal(logits, q(images))
    differing = {name: int((fast[name] != exact[name]).sum()) for name in fast}
    values = sum(x.numel() for x in fast.values())
    return {
        "casts": len(fast),
        "values": values,
        "differing": sum(differing.values()),
        "share": sum(differing.values()) / values,
        "share of the worst cast": max(differing[name] / fast[name].numel() for name in fast),
        "images": len(labels),
        "right, fast": int((logits.argmax(1) == labels).sum()),
        "right, exact": int((true_logits.argmax(1) == labels).sum()),
        "loss, fast": functional.cross_entropy(logits, labels).item(),
        "loss, exact": functional.cross_entropy(true_logits, labels).item(),
        "differing by cast": differing,
    }


def run(interpreter: Interpreter, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """{site: what the cast of an activation gives, in float64}, and the logits."""
    found: dict[str, Tensor] = {}
    plain: Callable[[Node], Any] = interpreter.run_node

    def run_node(node: Node) -> Any:
        result = plain(node)
        if node.target is cast and node.all_input_nodes[0].op != "get_attr":
            found[" ".join(node.meta["quire_sites"])] = emitted(result)
        return result

    interpreter.run_node = run_node
    logits = interpreter.run(images)
    return found, logits


def emitted(value: Tensor | Exact) -> Tensor:
    if isinstance(value, Tensor):
        return value.double()
    assert value.origin is not None
    return value.origin.emitted


if __name__ == "__main__":
    main()
