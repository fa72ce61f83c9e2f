"""The lines of code that train with an answer, its schedule included."""

from __future__ import annotations

from . import words
from .expression import schedule_code
from .facts import Facts

__all__ = ["training_lines"]


def training_lines(facts: Facts) -> str:
    """What to paste: the optimizer with the found lr, and its schedule as a `LambdaLR`."""
    first = words.paste(facts)
    data = facts.record.schedule
    if not first or not data or data.get("foreign"):
        return first
    found = schedule_code(data)
    flat = {v for _, v in facts.record.multipliers}
    if found is None or len(flat) == 1:
        return first
    code, names = found
    if ".bind(" not in code:
        if 'ep"' in code:
            return first  # its steps per epoch are not known here
        code = f"({code}).bind({facts.record.horizon})"
    return (
        f"from etascope.schedules import {', '.join(sorted(names))}\n\n"
        f"{first}\n"
        f"schedule = {code}\n"
        "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)  # step it after each step"
    )
