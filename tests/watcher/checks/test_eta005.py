"""ETA005: beyond the edge of stability, and not falling."""

from __future__ import annotations

import pytest

from ..runs import controller, falling, feed, probe


def flat() -> list[float]:
    return falling()[:300] + falling(600, start=0.7, end=0.7)


@pytest.mark.parametrize(
    ("look", "number"),
    [(probe(sharpness=400.0, bound=2.0), ("times_bound", 2.0)), (probe(sign=-0.7), ("sign", -0.7))],
)
def test_three_probes_beyond_it_and_a_loss_that_stays(look: object, number: tuple[str, float]) -> None:
    watcher = controller(act=False)
    feed(watcher, flat(), lr=1e-2)
    first, second, third = (watcher.probe(900, look) for _ in range(3))  # type: ignore[arg-type]
    assert first is second is None and third is not None and third.code == "ETA005"
    assert third.numbers[number[0]] == pytest.approx(number[1])
    assert "the loss does not fall" in str(third) and "cut" in str(third)


def test_at_the_edge_and_falling_is_how_trainings_go() -> None:
    watcher = controller(act=False)
    feed(watcher, falling()[:300], lr=1e-2)
    assert [watcher.probe(300, probe(sharpness=400.0, bound=2.0)) for _ in range(4)] == [None] * 4
    feed(watcher, flat()[300:], lr=1e-2, first=300)
    assert [watcher.probe(900, probe(sharpness=250.0, bound=2.0)) for _ in range(4)] == [None] * 4


def test_without_probes_it_does_not_apply() -> None:
    assert controller().checks()["ETA005"] == "nothing was probed"
