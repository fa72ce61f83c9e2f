"""`etascope schedule`."""

import json
import subprocess
import sys

from etascope.schedules import Schedule


def test_draws_lists_checks_and_explains(cli):
    got = cli("schedule", "warmup(5%) >> cosine(to=0.1)", "--horizon", 2000)
    assert got.code == 0 and got.err == ""
    assert "█" in got.out and "2,000 steps" in got.out
    assert "1,000     0.587161" in got.out
    assert "Nothing odd was seen." in got.out
    assert "Step 1,000 of 2,000 has 0.587161 of the peak lr: phase 2 of 2, cosine(to=0.1), 900 of 1,900" in got.out


def test_with_a_peak_epochs_and_another_length_of_the_run(cli):
    text = "warmup(2ep, start=0) >> cosine()"
    got = cli("schedule", text, "--horizon", 1000, "--steps-per-epoch", 50, "--lr", "2e-3", "--run", 900, "--step", 3)
    assert got.code == 0
    assert "Learning rate" in got.out and "  2e-3" in got.out
    assert "horizon: The run has 900 steps" in got.out and "zero-start:" in got.out
    assert "Step 3 of 1,000 has the lr 6e-05" in got.out


def test_json(cli):
    got = cli("schedule", "linear()", "--horizon", 100, "--json", "--lr", 0.5, "--step", 10)
    data = json.loads(got.out)
    assert Schedule.from_json(data["schedule"]) == Schedule.parse("linear()").bind(100) == Schedule.parse(data["text"])
    assert {"step": 10, "multiplier": 0.9, "lr": 0.45} in data["values"]
    assert data["remarks"] == [] and len(data["explanations"]) == 1


def test_svg(cli, here):
    cli("schedule", "linear()", "--horizon", 100, "--svg", "curve.svg")
    assert (here / "curve.svg").read_text().startswith("<svg")


def test_errors_point_and_exit_with_2(cli):
    got = cli("schedule", "warmup(5%) >> cosin()", "--horizon", 2000)
    assert (got.code, got.out) == (2, "")
    assert "              ^" in got.err and "Did you mean 'cosine'?" in got.err
    for args in (["warmup(2ep)", "--horizon", 20], ["linear(50)", "--horizon", 20], ["linear()", "--horizon", 0]):
        got = cli("schedule", *args)
        assert got.code == 2 and got.err.startswith("Error: ")
    got = cli("schedule", "linear()", "--horizon", 20, "--lr", -1)
    assert got.code == 2 and "--lr is -1" in got.err


def test_loads_no_torch():
    code = (
        "import sys; sys.argv = ['etascope', 'schedule', 'linear()', '--horizon', '10']\n"
        "import atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "from etascope.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "False\n"
