"""Which door an object goes through. What lies behind each is tested inside its framework, in tests/integrations."""

from __future__ import annotations

import subprocess
import sys

import pytest

import etascope as eta
from etascope.errors import OptionError, TaskError

ALONE = """
import sys, etascope as eta
eta.sweep(lambda lr, steps, seed: (lr - 0.1) ** 2, horizon=5, lrs=[0.1, 0.2])
assert not {"transformers", "lightning", "pytorch_lightning"} & set(sys.modules)
"""


def test_a_training_function_loads_no_framework() -> None:
    subprocess.run([sys.executable, "-c", ALONE], check=True)


def test_a_trainer_is_known_by_its_ancestry_alone() -> None:
    """A class of that very name is enough: here, to be refused for what it lacks."""
    named = type("Trainer", (), {"__module__": "lightning.pytorch.trainer.trainer"})
    with pytest.raises(TaskError, match="knows no module"):
        eta.find(type("Mine", (named,), {})())


def test_what_is_lightnings_needs_its_trainer() -> None:
    for name in ("datamodule", "train_dataloaders", "val_dataloaders", "monitor"):
        with pytest.raises(OptionError, match=f"{name}= is Lightning's"):
            eta.plan(lambda lr, steps, seed: 1.0, horizon=5, **{name: "x"})
    named = type("Trainer", (), {"__module__": "transformers.trainer"})()
    with pytest.raises(OptionError, match="this is Hugging Face's") as refused:
        eta.find(lambda lr: None, trainer=named)
    assert "eta.find(trainer)" in refused.value.next_move
