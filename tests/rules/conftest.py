"""What the tests of rules share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def double() -> Iterator[None]:
    """float64 as the default dtype, in which torch keeps some scalars of NAdam and ASGD: a rounding less to compare."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
