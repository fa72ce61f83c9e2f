"""One thread, fixed seeds, and the way to real data."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# The same examples at every run, however slow the machine; `pytest --hypothesis-profile=default` draws new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def etascope_data() -> Path:
    """The folder of real data sets; the test is skipped where there is none."""
    folder = os.environ.get("ETASCOPE_DATA")
    if not folder:
        pytest.skip("needs real data: set ETASCOPE_DATA to the folder that holds it")
    if not Path(folder).is_dir():
        pytest.skip(f"needs real data: ETASCOPE_DATA is {folder!r}, which is no folder")
    return Path(folder)
