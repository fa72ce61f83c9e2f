"""What TARGET may be, and what is said when it is not."""

import pickle
import sys

import pytest

from etascope.cli.target import resolve
from etascope.errors import OptionError, TaskError
from etascope.task import Task

HEAD = "import torch\nfrom etascope.task import Task\n"
MAKE = "Task(model=torch.nn.Linear(1, 1), optimizer=torch.optim.SGD, train=[torch.ones(1, 1)], horizon=3{more})"
TASK = MAKE.format(more="")


@pytest.fixture
def write(here):
    def put(name, *lines):
        path = here / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("\n".join(lines) + "\n")
        return path

    return put


def test_built_in():
    target = resolve("digits")
    assert isinstance(target.task, Task) and (target.name, target.horizon) == ("digits", None)


def test_file_with_a_task(write):
    write("mine.py", HEAD, f"task = {TASK}", "if __name__ == '__main__': 1 / 0")
    target = resolve("mine.py")
    assert isinstance(target.task, Task) and target.name == "mine"
    assert not list(write("x.py").parent.glob("__pycache__"))


def test_a_task_with_a_name_keeps_it(write):
    named = MAKE.format(more=", name='ours'")
    write("mine.py", HEAD, f"task = {named}")
    assert resolve("mine.py").name == "ours"


def test_file_with_a_function_that_makes_the_task(write):
    write("mine.py", HEAD, "def task(width=1):", f"    return {TASK}")
    assert isinstance(resolve("mine.py").task, Task)


def test_file_and_name(write):
    write("mine.py", HEAD, f"small = {TASK}")
    assert resolve("mine.py:small").name == "mine-small"


def test_module_and_name(write):
    write("pack/__init__.py")
    write("pack/inner.py", HEAD, f"small = {TASK}")
    assert isinstance(resolve("pack.inner:small").task, Task)


def test_training_function_and_its_horizon(write):
    write("fun.py", "def run(lr, steps, seed): return lr", "horizon = 70")
    assert (resolve("fun.py").horizon, resolve("fun.py", 9).horizon) == (70, 9)
    assert resolve("fun.py").task(0.5, 1, 0) == 0.5
    write("defaults.py", "def run(lr=1, steps=2, seed=3): return lr", "HORIZON = 7")
    assert resolve("defaults.py").horizon == 7


def test_functions_of_a_file_can_be_pickled(write):
    write("fun.py", "def run(lr, steps, seed): return lr", "horizon = 70")
    run = resolve("fun.py").task
    assert pickle.loads(pickle.dumps(run)) is run


def test_a_file_may_import_its_neighbour_and_shadow_no_module(write):
    write("sub/neighbour_of_mine.py", "horizon = 5")
    write("sub/json.py", "from neighbour_of_mine import horizon", "def run(lr, steps, seed): return lr")
    import json

    assert resolve("sub/json.py").horizon == 5
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("digts", "Did you mean 'digits'"),
        ("digts", "etascope find my_task.py"),
        ("min.py", "Did you mean mine.py?"),
        ("mine", "Did you mean the file mine.py?"),
        ("nowhere/mine.py", "no folder nowhere"),
        (".", "is a folder"),
        ("sub/", "sub/ is not there"),
        ("mine.py", "It defines `my_task`, a Task: give mine.py:my_task"),
        ("mine.py:my_tsk", "Did you mean mine.py:my_task?"),
        ("empty.py", "Define `task = etascope.Task(...)`"),
        ("nosuch.module:task", "there is no module 'nosuch.module'"),
        ("fun.py", "Give --horizon STEPS, or define `horizon = ...` in fun.py"),
        ("zero.py", "`horizon` in zero.py is 0"),
    ],
)
def test_options_that_cannot_be_used(write, text, said):
    write("mine.py", HEAD, f"my_task = {TASK}")
    write("empty.py")
    write("fun.py", "def run(lr, steps, seed): return lr")
    write("zero.py", "def run(lr, steps, seed): return lr", "horizon = 0")
    with pytest.raises(OptionError) as got:
        resolve(text)
    assert said in str(got.value)


@pytest.mark.parametrize(
    ("lines", "said", "cause"),
    [
        (["x = 1", "x / 0"], "bad.py raises (bad.py:2): ZeroDivisionError", ZeroDivisionError),
        (["x = 1", "def f(:"], "bad.py is not valid Python (bad.py:2)", SyntaxError),
        (["import sys", "sys.exit(3)"], "(bad.py:2), by sys.exit(3)", SystemExit),
        (["import no_such_thing"], "No module named 'no_such_thing'", ModuleNotFoundError),
        ([HEAD, "task = Task(model=1, optimizer=1, train=[], horizon=1)"], "bad.py:4): model is", TaskError),
        (["def task():", "    return 1 / 0"], "(bad.py:2): ZeroDivisionError", ZeroDivisionError),
        (["def task(): return 5"], "returned an int, not a Task", None),
        (["task = 5"], "`task` in bad.py is an int, neither", None),
        (["import torch", "task = torch.nn.Linear(1, 1)"], "is a Linear, neither", None),
        (["class run: pass"], "is the class run, neither", None),
        (["def run(lr): pass", "horizon = 3"], "is a function of (lr), neither", None),
    ],
)
def test_tasks_that_cannot_be_used(write, lines, said, cause):
    write("bad.py", *lines)
    with pytest.raises(TaskError) as got:
        resolve("bad.py")
    assert said in str(got.value)
    assert cause is None or isinstance(got.value.__cause__, cause)
    assert "bad" not in sys.modules or cause is None or lines[0].startswith("def")


def test_module_that_raises(write):
    write("broken_module.py", "x = 1 / 0")
    with pytest.raises(TaskError, match=r"broken_module raises \(broken_module.py:1\): ZeroDivisionError"):
        resolve("broken_module:task")
