"""Answers, options, folders, exit codes."""

import json
import os
import sys

import pytest

from etascope import errors
from etascope.finder.progress import choose
from etascope.records import load


def test_answer_on_stdout_and_files_in_a_new_folder(cli, fake, records, here):
    calls = fake(lambda task, **o: records.finding())
    got = cli("find", "digits", "--budget", "0.5", "--seed", 3, "--mine", "1e-3", "--engine", "loop")
    assert got.code == 0
    assert got.out.startswith("digits: use lr 1e-2")
    folder = calls[0][1]["out"]
    assert folder.parent.name == "etascope-runs" and folder.name.endswith("-digits-1")
    assert (here / folder / "report.html").is_file()
    assert f"{folder}/report.html" in got.out
    options = calls[0][1]
    assert (options["budget"], options["seed"], options["mine"], options["engine"]) == ("0.5", 3, 1e-3, "loop")
    assert options["name"] == "digits" and options["horizon"] is None


def test_each_run_has_a_folder_of_its_own(cli, fake, records):
    calls = fake(lambda task, **o: records.finding())
    for _ in range(3):
        cli("find", "digits")
    assert [options["out"].name[-2:] for _, options in calls] == ["-1", "-2", "-3"]


def test_a_time_budget_is_passed_on_as_text(cli, fake, records):
    calls = fake(lambda task, **o: records.finding())
    cli("find", "digits", "--budget", "10min")
    assert calls[0][1]["budget"] == "10min"


def noise():
    print("printed by the task")
    os.write(1, b"written by C code\n")
    os.system("echo echoed by a child")
    sys.__stdout__.write("kept from before\n")


def test_json_is_alone_on_stdout(cli, fake, records):
    def act(task, *, progress, **o):
        told = choose(progress)
        told.plan("plan: 3 rungs")
        noise()
        told.rung("rung 1")
        return records.finding()

    fake(act)
    got = cli("find", "digits", "--json")
    assert json.loads(got.out)["lr"] == 0.01
    assert got.out.startswith("{") and got.out.endswith("}\n")
    for line in ("printed by the task", "written by C code", "echoed by a child", "plan: 3 rungs", "rung 1"):
        assert line in got.err
    assert "\x1b" not in got.err and "report.html" in got.err


def test_json_is_strict(cli, fake, records):
    fake(lambda task, **o: records.finding())

    def refuse(name):
        raise AssertionError(name)

    data = json.loads(cli("find", "digits", "--json").out, parse_constant=refuse)
    assert data["rungs"][0]["losses"][-1] == [None]


def test_sweep(cli, fake, records, here):
    calls = fake(lambda task, **o: records.sweep(), "sweep")
    got = cli("sweep", "digits", "--lrs", "7", "--seeds", "0,1,2", "--lr-min", "1e-4", "--json", "--out", "s")
    assert json.loads(got.out)["schema"] == "etascope.sweep/1"
    options = calls[0][1]
    assert (options["lrs"], options["seeds"], options["lr_min"]) == (7, (0, 1, 2), 1e-4)
    assert (here / "s" / "report.html").is_file()
    cli("sweep", "digits", "--lrs", "1e-3,0.1")
    assert calls[1][1]["lrs"] == [1e-3, 0.1]


@pytest.mark.parametrize("option", [("--lrs", "many"), ("--seeds", "a,b"), ("--seeds", ",")])
def test_sweep_refuses(cli, option):
    got = cli("sweep", "digits", *option)
    assert got.code == 2 and option[0] in got.err and not got.out


def test_plan_writes_nothing(cli, fake, here):
    fake(lambda task, **o: "plan: 4 rungs\n  rung 1", "plan")
    got = cli("find", "digits", "--plan")
    assert (got.code, got.out) == (0, "plan: 4 rungs\n  rung 1\n")
    assert list(here.iterdir()) == []


def test_no_answer(cli, fake, records, here):
    def act(task, **o):
        raise errors.NoAnswer("every learning rate diverges.", "Look at the data.", record=records.unanswered())

    fake(act)
    got = cli("find", "digits", "--out", "o")
    assert got.code == 3
    assert "Every learning rate diverges" in got.out and "Look at the data." in got.err
    assert (here / "o" / "report.html").is_file()
    got = cli("find", "digits", "--out", "o", "--json")
    assert got.code == 3 and json.loads(got.out)["lr"] is None
    assert "every learning rate diverges" in got.err


def test_interrupted_with_a_finding(cli, fake, records, here):
    def act(task, **o):
        raise errors.Interrupted(records.finding(complete=False))

    fake(act)
    got = cli("find", "digits", "--seed", 1, "--out", "my runs")
    assert got.code == 130
    assert "use lr 1e-2" in got.out and (here / "my runs" / "report.html").is_file()
    assert "etascope find digits --seed 1 --out 'my runs'\n" in got.err


def test_interrupted_names_the_folder_that_it_made(cli, fake, here):
    def act(task, *, out, **o):
        (out / "journal.jsonl").touch()
        raise KeyboardInterrupt

    calls = fake(act)
    got = cli("find", "digits")
    assert got.code == 130 and not got.out
    assert got.err.rstrip().endswith(f"etascope find digits --out {calls[0][1]['out']}")


def test_interrupted_before_anything_was_written(cli, fake, here):
    def act(task, **o):
        raise errors.Interrupted(None)

    fake(act)
    got = cli("find", "digits")
    assert got.err.rstrip().endswith("etascope find digits") and not list((here / "etascope-runs").iterdir())


def test_report(cli, records, here):
    (here / "o").mkdir()
    records.finding().save("o/finding.json")
    assert cli("report", "o").out == "o/report.html\n"
    (here / "o" / "report.html").unlink()
    assert cli("report", "o/finding.json").out == "o/report.html\n"
    records.sweep().save("kept.json")
    assert cli("report", "kept.json").out == "kept.html\n"
    assert (here / "kept.html").is_file() and load("kept.json")


def test_a_report_does_not_take_the_place_of_its_record(cli, records, here):
    records.finding().save("notes.html")
    assert cli("report", "notes.html").out == "notes-report.html\n"
    assert load("notes.html") == records.finding()


def test_somebody_elses_report_is_not_overwritten(cli, fake, records, here):
    fake(lambda task, **o: records.finding())
    (here / "o").mkdir()
    (here / "o" / "report.html").write_text("a year of work")
    got = cli("find", "digits", "--out", "o")
    assert got.code == 2 and "would be overwritten" in got.err and "--out" in got.err
    assert (here / "o" / "report.html").read_text() == "a year of work"


def test_a_sweep_without_an_answer(cli, fake, records, here):
    def act(task, **o):
        raise errors.NoAnswer("everything diverges.", "Sweep lower.", record=records.sweep())

    fake(act, "sweep")
    got = cli("sweep", "digits", "--out", "o")
    assert got.code == 3 and "Sweep lower." in got.err and (here / "o" / "report.html").is_file()


def test_report_without_a_record(cli, here):
    got = cli("report", "nowhere")
    assert got.code == 2 and "nowhere" in got.err and "Traceback" not in got.err


def test_tasks_and_version(cli):
    assert "digits-cnn  " in cli("tasks").out
    assert cli("--version").out.startswith("etascope")


@pytest.mark.parametrize("args", [("frobnicate",), ("find",), ("find", "digits", "--engine", "steam")])
def test_usage_errors(cli, args):
    got = cli(*args)
    assert got.code == 2 and not got.out and "Traceback" not in got.err
