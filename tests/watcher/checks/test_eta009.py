"""ETA009: the effective lr has collapsed."""

from __future__ import annotations

import pytest

from ..runs import controller, cosine, falling, feed, probe, probed, said

TIMES = (50, 100, 150, 600, 650, 700)


def run(effective: list[float], rule: str = "adagrad", lr: object = 1e-2) -> list[object]:
    looks = {step: probe(effective_lr=own) for step, own in zip(TIMES, effective, strict=True)}
    return list(said(probed(controller(act=False, run={"rule": rule}), falling(), looks, lr=lr), "ETA009"))


def test_a_tenth_of_what_it_was() -> None:
    (note,) = run([1.0, 1.0, 1.0, 0.1, 0.1, 0.1])
    assert note.numbers["fallen"] == pytest.approx(10)  # type: ignore[attr-defined]
    assert "10 times less far than at step 100, at lr 1e-2" in str(note)
    assert "forgets" in note.move  # type: ignore[attr-defined]
    assert "beta2" in run([1.0, 1.0, 1.0, 0.1, 0.1, 0.1], "adam")[0].move  # type: ignore[attr-defined]


def test_the_schedules_own_decay_is_none() -> None:
    assert run([cosine(step) for step in TIMES], lr=cosine) == []


def test_one_batch_with_a_large_gradient_is_none() -> None:
    assert run([1.0, 1.0, 1.0, 1.0, 1.0, 0.05]) == []


def test_gradients_that_grew_by_as_much_explain_it() -> None:
    watcher = controller(act=False, run={"rule": "adam"})
    losses = falling()
    for step in range(0, 1000, 50):
        feed(watcher, losses[step : step + 50], lr=1e-2, first=step, grad=1.0 + step / 50)
        watcher.probe(step + 50, probe(effective_lr=1.0 / (1.0 + step / 50)))
    assert said(watcher, "ETA009") == []


def test_sgd_has_none() -> None:
    assert controller(run={"rule": "sgd"}).checks()["ETA009"] == "sgd is not adaptive"
    assert run([1.0, 1.0, 1.0, 0.1, 0.1, 0.1], "sgd") == []
