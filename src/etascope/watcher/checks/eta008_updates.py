"""ETA008: updates too small or too large for the weights."""

from __future__ import annotations

from typing import Any

from .base import NoteCheck, Said, View

ROW = 3
SMALL, LARGE = 1e-6, 0.1


class Updates(NoteCheck):
    """A layer's updates do not fit its weights.

    The update's norm over the weights' norm is near 1e-3 where training goes well. Below 1e-6 at three probes in a row
    a layer is as good as frozen; above 0.1 it forgets in ten steps what it was. Layers that are zero at the beginning
    (biases, the last layer of a block) start large, so it looks from a tenth of the run on, and not once the lr has
    been decayed to less than a tenth.

    **What to do.** One layer: its initialisation or its own lr (`lr_scale`, param groups). All layers: the lr.

    Source of the 1e-3: A. Karpathy, CS231n notes, "Ratio of weights:updates".
    """

    code = "ETA008"
    title = "updates too small or too large for the weights"
    on = frozenset({"probe"})

    def inapplicable(self, view: View) -> str:
        return "" if view.probes else "nothing was probed"

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        probes = view.last_probes(ROW)
        highest = max((b.lr for b in view.blocks), default=view.signals.lr)
        if len(probes) < ROW or (view.share or 0.1) < 0.1 or view.signals.lr < 0.1 * highest:
            return None
        layers = [name for name in probes[-1].layers if all(name in p.layers for p in probes)]
        ratios = {name: [p.layers[name].update_ratio for p in probes] for name in layers}
        small = [name for name, own in ratios.items() if 0.0 < max(own) < SMALL]
        large = [name for name, own in ratios.items() if min(own) > LARGE]
        for names, word, far in ((large, "large", min), (small, "small", max)):
            if not names:
                continue
            worst = names[0]
            value = far(ratios[worst])
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            said = f"the updates of {worst}{others} move the weights by {value:.1g} of their norm each: too {word}"
            move = "Look at the lr." if len(names) == len(layers) else "Look at that layer's initialisation and lr."
            return Said(said, move, {"update_ratio": value, "layers": len(names)})
        return None
