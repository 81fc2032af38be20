"""The command line: one thin subcommand for each stage."""

from rich.console import Console

from quire.cli import bench_gpu, hardware, plans, search, sensitivity, software
from quire.cli.app import app
from quire.errors import QuireError

__all__ = ["app", "bench_gpu", "hardware", "main", "plans", "search", "sensitivity", "software"]


def main() -> None:
    """Run the command line; an error of Quire is one message and exit code 2."""
    try:
        app()
    except QuireError as error:
        Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        raise SystemExit(2) from None
