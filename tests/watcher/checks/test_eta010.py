"""ETA010: the first steps did harm."""

from __future__ import annotations

from ..runs import controller, falling, feed, said

HARM = [2.3 + 0.3 * i for i in range(15)] + [6.5 - 0.4 * i for i in range(10)] + falling(975)


def test_a_rise_at_the_beginning_that_the_run_got_over() -> None:
    watcher = controller(act=False)
    feed(watcher, HARM, lr=1e-2)
    (note,) = said(watcher, "ETA010")
    assert note.step > 100 and 5 < note.numbers["high"] <= 6.5 and note.numbers["init"] < 3
    assert "at lr 1e-2, with no warmup" in note.said


def test_the_warmup_that_was_too_short_is_named() -> None:
    watcher = controller(act=False, run={"warmup": 5})
    feed(watcher, HARM, lr=1e-2)
    assert "with a warmup of 5 steps" in said(watcher, "ETA010")[0].said


def test_good_beginnings_and_rises_during_the_warmup() -> None:
    quiet = controller(act=False)
    feed(quiet, falling(noise=0.1))
    early = controller(act=False)
    feed(early, HARM, lr=lambda step: 1e-4 if step < 100 else 1e-2)
    assert said(quiet, "ETA010") == said(early, "ETA010") == []


def test_a_run_that_never_learnt_is_something_else() -> None:
    watcher = controller(act=False)
    feed(watcher, HARM[:15] + [6.5] * 400, lr=1e-2)
    assert said(watcher, "ETA010") == []
