"""What tests of compilation share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Nothing that was compiled before counts, and nothing is kept after."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()
