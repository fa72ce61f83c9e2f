"""Progress in pipes and on terminals."""

import sys

import pytest

from etascope.finder import progress as progress_module
from etascope.finder.progress import Progress, Silent, Terminal, choose, in_words


@pytest.mark.parametrize("progress", [Silent(), Terminal()])
def test_in_a_pipe_there_are_lines_and_no_bar(progress, capsys):
    assert isinstance(progress, Progress)
    progress.plan("plan: " + "long " * 60)
    progress.start(100)
    progress.tick(50)
    progress.start(80)
    progress.rung("rung 1 [bold]")
    progress.stop()
    progress.stop()
    out, err = capsys.readouterr()
    expected = "plan: " + "long " * 60 + "\nrung 1 [bold]\n" if isinstance(progress, Terminal) else ""
    assert (out, err) == ("", expected)


def test_on_a_terminal_there_is_a_bar_below_the_lines(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    progress = Terminal()
    progress.start(100)
    progress.tick(30)
    progress.start(80)
    progress.rung("rung 1 [bold]")
    progress.stop()
    out, err = capsys.readouterr()
    assert "rung 1 [bold]" in err and "of 80 steps" in err and out == ""


@pytest.mark.parametrize("width", [30, 44, 59, 60, 80])
def test_the_time_left_is_never_cut(width, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    progress = Terminal()
    progress.start(12_345)
    progress.tick(6_789)
    progress.start(12_345)
    progress.stop()
    shown = capsys.readouterr().err
    assert "of 12,345" in shown and "left" in shown and "…" not in shown


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (63, "18 live, 6 dropped, 6,789 of 12,345 steps, 1,234/s, 0:05 left"),
        (60, "18 live, 6 dropped, 6,789 of 12,345, 1,234/s, 0:05 left"),
        (50, "18 live, 6 dropped, 6,789 of 12,345, 0:05 left"),
        (40, "6,789 of 12,345, 1,234/s, 0:05 left"),
        (30, "6,789 of 12,345, 0:05 left"),
        (10, "6,789 of 12,345, 0:05 left"),
    ],
)
def test_a_narrow_bar_leaves_parts_out(width, expected):
    assert in_words(6_789, 12_345, (18, 6), 1234.4, width) == expected
    assert len(expected) <= width or width == 10


def test_what_is_not_known_is_not_said():
    assert in_words(0, 200, None, None, 80) == "0 of 200 steps, -:-- left"
    assert in_words(10, 20_000, (3, 0), 0.5, 80) == "3 live, 0 dropped, 10 of 20,000 steps, 0.5/s, 11:06:20 left"


def test_the_pace_is_that_of_the_training_alone(capsys, monkeypatch):
    """0: 5,000 steps from a journal. 0 to 10 s: 1,000 steps. To 60 s: a fit. To 70 s: 100 steps."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    progress = Terminal()
    progress.start(10_000)
    progress.tick(5_000)
    progress.lanes(8, 0)
    now[0] = 5.0
    progress.tick(500)
    progress.lanes(6, 2)
    now[0] = 10.0
    progress.tick(500)
    assert "6 live, 2 dropped, 6,000 of 10,000 steps, 100/s, 0:40 left" in capsys.readouterr().err
    progress.lanes(0, 2)
    now[0] = 60.0
    progress.tick(0)
    assert "100/s, 0:40 left" in capsys.readouterr().err  # as it was
    progress.lanes(3, 2)
    now[0] = 70.0
    progress.tick(100)
    assert "3 live, 2 dropped, 6,100 of 10,000 steps, 10/s, 6:30 left" in capsys.readouterr().err
    progress.stop()


def test_the_pace_is_that_of_the_last_half_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    progress = Terminal()
    progress.start(10**6)
    progress.lanes(8, 0)
    for steps in (300, 30):  # at 1000 steps/s, then at 100
        for _ in range(200):
            now[0] += 0.3
            progress.tick(steps)
    assert capsys.readouterr().err.rstrip().rpartition("/s")[0].endswith(" 100")
    progress.stop()


def test_choice(monkeypatch):
    mine = Silent()
    assert choose(mine) is mine
    assert isinstance(choose(True), Terminal) and isinstance(choose(False), Silent)
    assert isinstance(choose(None), Silent)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(choose(None), Terminal)
