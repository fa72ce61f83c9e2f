"""The lines of code that train with an answer, its schedule included."""

from __future__ import annotations

from . import words
from .facts import Facts

__all__ = ["training_lines"]


def training_lines(facts: Facts) -> str:
    """What to paste: the optimizer with the found lr, and its schedule attached to it."""
    first = words.paste(facts)
    text = words.schedule_text(facts.record)
    flat = {v for _, v in facts.record.multipliers}
    if not first or text is None or len(flat) == 1:
        return first
    epochs = ", steps_per_epoch=len(train_loader)" if "ep'" in text and "steps_per_epoch" not in text else ""
    return (
        "import etascope as eta\n\n"
        f"{first}\n"
        f'schedule = eta.Schedule.parse("{text}")\n'
        f"handle = eta.attach(schedule, optimizer, horizon={facts.record.horizon}{epochs})  # nothing more to call"
    )
