"""Progress in pipes and on terminals."""

import sys

import pytest

from etascope.finder.progress import Progress, Silent, Terminal, choose


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


def test_choice(monkeypatch):
    mine = Silent()
    assert choose(mine) is mine
    assert isinstance(choose(True), Terminal) and isinstance(choose(False), Silent)
    assert isinstance(choose(None), Silent)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(choose(None), Terminal)
