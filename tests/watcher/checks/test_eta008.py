"""ETA008: updates too small or too large for the weights."""

from __future__ import annotations

import pytest

from etascope.watcher import LayerProbe, Probe

from ..runs import controller, cosine, falling, probe, probed, said


@pytest.mark.parametrize(("ratio", "word"), [(3e-8, "too small"), (0.4, "too large")])
def test_all_layers(ratio: float, word: str) -> None:
    looks = {step: probe(update_ratio=ratio) for step in (100, 200, 300)}
    (note,) = said(probed(controller(act=False), falling(), looks), "ETA008")
    assert note.step == 300 and note.numbers == {"update_ratio": ratio, "layers": 2}
    assert f"first and 1 more move the weights by {ratio:.1g}" in note.said and note.said.endswith(word)
    assert note.move == "Look at the lr."


def test_one_layer() -> None:
    look = Probe({"first": LayerProbe(1e-3, 1e-2, 0.0), "head": LayerProbe(0.3, 1e-2, 0.0)})
    (note,) = said(probed(controller(act=False), falling(), dict.fromkeys((200, 300, 400), look)), "ETA008")
    assert "the updates of head move" in note.said and "that layer's" in note.move


def test_neither_at_the_beginning_nor_when_the_lr_has_been_decayed() -> None:
    assert said(probed(controller(act=False), falling(), dict.fromkeys((10, 40, 70), probe(0.4))), "ETA008") == []
    assert cosine(900) < 0.1 * cosine(0)
    assert said(probed(controller(act=False), falling(), dict.fromkeys((850, 900, 950), probe(1e-8))), "ETA008") == []


def test_a_well_set_run_and_one_without_probes() -> None:
    assert said(probed(controller(act=False), falling(), dict.fromkeys((200, 300, 400), probe())), "ETA008") == []
    assert controller().checks()["ETA008"] == "nothing was probed"
