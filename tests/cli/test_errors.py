"""Errors: words on the terminal, the traceback in a file."""

import sys

import pytest

from etascope import errors


def failing(error, cause=None):
    def act(task, **o):
        raise error from cause

    return act


def test_a_task_that_raises(cli, fake, here):
    fake(failing(errors.TaskError("the loss raised", "Mend it."), ValueError("deep inside")))
    got = cli("find", "digits", "--out", "o")
    assert got.code == 2 and not got.out
    assert got.err.splitlines()[-3:] == [
        "Error: the loss raised",
        "Mend it.",
        "The whole traceback is in o/error.txt",
    ]
    text = (here / "o" / "error.txt").read_text()
    assert "deep inside" in text and "direct cause" in text and "TaskError" in text


def test_traceback_is_printed_when_asked(cli, fake):
    fake(failing(errors.TaskError("the loss raised"), ValueError("deep inside")))
    got = cli("find", "digits", "--traceback")
    assert "Traceback (most recent call last)" in got.err and "deep inside" in got.err


def test_a_wrong_option_leaves_nothing_behind(cli, fake, here):
    fake(failing(errors.OptionError("budget is -1.", "Give more.")))
    got = cli("find", "digits", "--budget", "-1")
    assert got.code == 2 and got.err.endswith("Error: budget is -1.\nGive more.\n")
    assert list((here / "etascope-runs").iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (RuntimeError("odd"), "unexpected RuntimeError: odd", 1),
        (MemoryError(), "memory is full", 1),
        (SystemExit(4), "sys.exit(4)", 2),
    ],
)
def test_what_nobody_foresaw(cli, fake, here, error, said, code):
    fake(failing(error))
    got = cli("find", "digits", "--out", "o")
    assert got.code == code and said in got.err and "Traceback" not in got.err
    assert type(error).__name__ in (here / "o" / "error.txt").read_text()


def test_out_that_is_a_file(cli, here):
    (here / "taken").touch()
    got = cli("find", "digits", "--out", "taken")
    assert got.code == 2 and "cannot write taken" in got.err and "Traceback" not in got.err


def test_runs_folder_that_is_a_file(cli, here):
    (here / "etascope-runs").touch()
    got = cli("find", "digits")
    assert got.code == 2 and "cannot write etascope-runs/" in got.err


def test_the_answer_comes_before_a_report_that_fails(cli, fake, records, here):
    def act(task, *, out, **o):
        (out / "report.html").mkdir()
        return records.finding()

    fake(act)
    got = cli("find", "digits", "--out", "o")
    assert got.code == 2 and "use lr 1e-2" in got.out and "cannot write" in got.err


def test_standard_output_is_restored(cli, fake):
    fake(failing(RuntimeError("odd")))
    before = sys.stdout
    cli("find", "digits")
    assert sys.stdout is before
