"""ETA007: validation turns while training falls."""

from __future__ import annotations

from ..runs import controller, falling, feed, said


def run(validations: list[float], losses: list[float] | None = None) -> list[object]:
    watcher, losses = controller(act=False), losses or falling()
    for i, loss in enumerate(validations):
        feed(watcher, losses[100 * i : 100 * (i + 1)], first=100 * i)
        watcher.validate(100 * (i + 1), loss)
    return list(said(watcher, "ETA007"))


def test_three_validations_above_the_lowest() -> None:
    (note,) = run([2.0, 1.2, 0.9, 1.0, 1.1, 1.2])
    assert note.numbers == {"best": 0.9, "at": 300, "last": 1.2}  # type: ignore[attr-defined]
    assert "validation is 1.2 after 0.9 at step 300, while the training loss fell from 0.789 to 0.402" in str(note)


def test_validation_that_falls_or_hovers_is_no_overfitting() -> None:
    assert run([2.0, 1.2, 0.9, 0.8, 0.75, 0.74, 0.73]) == []
    assert run([2.0, 1.2, 0.9, 0.905, 0.906, 0.904, 0.905]) == []


def test_where_training_rises_too_it_is_something_else() -> None:
    assert run([2.0, 1.2, 0.9, 1.0, 1.1, 1.2], falling()[:300] + falling(start=0.8, end=0.9)[:300]) == []


def test_without_validation_it_does_not_apply() -> None:
    assert controller().checks()["ETA007"].startswith("no validation loss")
