"""Errors: words on the terminal, the traceback in a file."""

import json
import sys

import pytest

from etascope import errors

RAISES = """
import torch, etascope
def loss(model, batch):
    raise ValueError("not today")
task = etascope.Task(
    model=torch.nn.Linear(2, 50), loss=loss, optimizer=torch.optim.SGD, train=[torch.ones(4, 2)], horizon=10
)
"""


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
    assert got.code == 2 and "cannot write taken: taken is a file, not a folder" in got.err
    assert "Traceback" not in got.err and "--out" in got.err


def test_an_error_of_before_is_gone_once_it_works(cli, fake, records, here):
    fake(failing(errors.TaskError("the loss raised"), ValueError("deep inside")))
    cli("find", "digits", "--out", "o")
    assert (here / "o" / "error.txt").is_file()
    fake(lambda task, **o: records.finding())
    (here / "o" / "journal.jsonl").touch()
    cli("find", "digits", "--out", "o")
    assert not (here / "o" / "error.txt").exists()


def test_where_the_traceback_lies_is_said_once(cli, here):
    (here / "own.py").write_text(RAISES)
    got = cli("find", "own.py")
    assert got.code == 2 and f"own.py:{RAISES[: RAISES.index('not today')].count(chr(10)) + 1}" in got.err
    assert got.err.count("whole traceback") == 1 and got.err.count("error.txt") == 1


def test_a_loss_that_is_not_finite_at_the_start_is_printed_and_kept(cli, here):
    (here / "own.py").write_text(
        RAISES.replace('raise ValueError("not today")', "return model(batch).log().mean() * 0")
    )
    got = cli("find", "own.py", "--json", "--out", "o")
    assert got.code == 3 and json.loads(got.out) == json.loads((here / "o" / "finding.json").read_text())
    assert "No answer: the loss is" in got.err and json.loads(got.out)["interval"] is None
    assert "at the start" in cli("find", "own.py", "--out", "o").out  # again, in words


def test_a_report_that_cannot_be_written_knows_no_out(cli, records, here):
    (here / "o").mkdir()
    records.finding().save("o/finding.json")
    (here / "o" / "report.html").mkdir()
    got = cli("report", "o")
    assert got.code == 2 and "cannot write o/report.html" in got.err and "--out" not in got.err


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
