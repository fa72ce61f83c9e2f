"""ETA012: it is not the learning rate."""

from __future__ import annotations

import math

import pytest

from etascope.watcher import LayerProbe, Probe, rewind

from ..runs import controller, falling, feed, probe, probed, said

ALIVE = LayerProbe(1e-3, 1e-2, 0.0)


def test_a_bad_batch() -> None:
    watcher, losses = controller(), falling()
    feed(watcher, [*losses[:500], 8.0, *losses[500:]])
    (note,) = said(watcher, "ETA012")
    assert note.numbers == {"skips": 1, "loss": 8.0}
    assert note.said.startswith("one bad batch: a loss of 8, and without an update in between 0.4")


def test_bad_data_for_a_while() -> None:
    watcher, losses = controller(), falling()
    feed(watcher, losses[:500] + [8.0] * 40 + losses[500:])
    (note,) = said(watcher, "ETA012")
    assert note.numbers["held"] == 37 and "out of line on a good model" in note.said


@pytest.mark.parametrize("dead", [LayerProbe(0.0, math.nan, 0.0), LayerProbe(1e-6, math.nan, 1.0)])
def test_a_dead_layer_with_and_without_weight_decay(dead: LayerProbe) -> None:
    looks = dict.fromkeys((100, 150, 200), Probe({"first": dead, "middle": dead, "last": ALIVE}))
    (note,) = said(probed(controller(), falling(), looks), "ETA012")
    assert note.step == 200 and note.numbers == {"layers": 2}
    assert note.said == "2 of 3 layers ('first' …) have had no gradient at three probes in a row"


def test_a_gradient_that_is_not_finite_is_no_loss_out_of_line() -> None:
    watcher = controller()
    feed(watcher, falling()[:300])
    watcher.observe(300, falling()[300], 1e-2, math.nan)
    feed(watcher, falling()[301:310], first=300)
    (note,) = said(watcher, "ETA012")
    assert note.said.startswith("one bad batch: a loss or gradient that is not finite, and without an update")


def test_what_is_how_the_loss_is_from_now_on_was_no_bad_data() -> None:
    watcher = controller(policies=(rewind(skips=0, hold=5),))
    feed(watcher, [*falling()[:300], *[9.0] * 30])
    assert watcher.signals.level == pytest.approx(9.0) and said(watcher, "ETA012") == []


def test_clipping_at_almost_every_step() -> None:
    watcher = controller()
    feed(watcher, falling(), grad=1.0)
    (note,) = said(watcher, "ETA012")
    assert note.numbers == {"norm": pytest.approx(1.0), "share": 1.0} and "clipped almost always" in note.said


def test_a_good_run() -> None:
    assert said(probed(controller(), falling(), dict.fromkeys((100, 150, 200), probe())), "ETA012") == []
