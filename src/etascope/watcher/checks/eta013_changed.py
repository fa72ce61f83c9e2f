"""ETA013: the lr was changed by someone else."""

from __future__ import annotations

from typing import Any

from ... import numbers as n
from .base import NoteCheck, Said, View


class Changed(NoteCheck):
    """The lr in the optimizer is not what the handle wrote there.

    The handle writes (peak · scale) · schedule(step) after each update; before the next one the value is compared, to
    the bit. A second scheduler, a callback, a checkpoint loaded into the wrong place. With `follow` (a default where
    the watch acts) the schedule's value is written again; without, the update is made with what was found.

    Not applicable without a handle: `eta.watch(..., schedule=handle)`.

    **What to do.** Take the other out. Who means it sets `handle.scale`.
    """

    code = "ETA013"
    title = "the lr was changed by someone else"
    on = frozenset({"lr"})

    def inapplicable(self, view: View) -> str:
        return "" if view.run.peak is not None else "no handle drives the lr"

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        found, written = float(about["found"]), float(about["written"])
        said = f"the optimizer's lr is {n.lr(found)}, and the schedule says {n.lr(written)}"
        if written > 0 and found > 0:
            said += f": {found / written:.3g} times that"
        return Said(said, "Take out what writes it, or set handle.scale.", {"found": found, "written": written})
