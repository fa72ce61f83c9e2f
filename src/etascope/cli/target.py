"""What TARGET names: a built-in task, a file, `file.py:name`, or `package.module:name`."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import OptionError, TaskError
from .loading import blame, load_file, load_module

if TYPE_CHECKING:
    from ..task import Task

__all__ = ["Target", "resolve"]

OWN = "A task of your own is a file that defines `task` or `run`: etascope find my_task.py"
DEFINE = "Define `task = etascope.Task(...)`, or a training function `def run(lr, steps, seed)`."


@dataclass(frozen=True)
class Target:
    """What is to be trained.

    Args:
        name: what the folder and the reports call it.
        task: the task, or the training function.
        horizon: steps of a complete run, for a training function (a task has its own, and refuses another).
    """

    name: str
    task: Task | Callable[..., Any]
    horizon: int | None


def resolve(text: str, horizon: int | None = None) -> Target:
    """Find what TARGET names, importing no more than that.

    Args:
        text: as typed.
        horizon: what `--horizon` says.

    Raises:
        OptionError: there is no such task, file, module or name.
        TaskError: the file raises, or what it defines is no task.
    """
    if match := re.fullmatch(r"(.+\.py)(?::([^:/\\]*))?", text):
        path, name = Path(match[1]), match[2]
        return _pick(load_file(path), path.name, path.stem, name, text, horizon)
    if ":" in text:
        module, _, name = text.rpartition(":")
        return _pick(load_module(module), module, module.rpartition(".")[2], name, text, horizon)
    return _built_in(text, horizon)


def _built_in(text: str, horizon: int | None) -> Target:
    from ..workloads import TASKS, get

    path = Path(text)
    if text not in TASKS:
        if Path(f"{text}.py").is_file():
            raise OptionError(f"no built-in task is called {text!r}.", f"Did you mean the file {text}.py?")
        if path.exists() or "/" in text or "\\" in text:
            kind = "a folder" if path.is_dir() else "not a Python file" if path.exists() else "not there"
            raise OptionError(f"{text} is {kind}.", OWN)
    try:
        task = get(text)
    except OptionError as error:
        hint = f"{error.next_move}\n{OWN}"
        if re.fullmatch(r"\w+(\.\w+)+", text):
            hint = f"A module needs the name in it: {text}:task"
        raise OptionError(error.cause, hint) from None
    return Target(text, task, horizon)


def _pick(module: ModuleType, shown: str, stem: str, name: str | None, text: str, horizon: int | None) -> Target:
    """The task or training function that a module holds."""
    own = {k: v for k, v in vars(module).items() if not k.startswith("_")}
    if name is None:
        name = next((n for n in ("task", "run") if n in own), None)
        if name is None:
            raise OptionError(f"{shown} defines neither `task` nor `run`.", _instead(module, own, text))
    elif name not in vars(module):
        near = difflib.get_close_matches(name, own, n=1, cutoff=0.5)
        base = text.rpartition(":")[0]
        hint = f"Did you mean {base}:{near[0]}?" if near else _instead(module, own, base)
        raise OptionError(f"{shown} does not define {name!r}.", hint)
    value, label = vars(module)[name], stem if name in ("task", "run") else f"{stem}-{name}"
    where = f"`{name}` in {shown}"
    if _is_factory(value, name):
        value = _call(value, module, where)
        if not _is_task(value):
            raise TaskError(f"{where} returned {_a(type(value).__name__)}, not a Task.", DEFINE)
    if _is_task(value):
        return Target(label if value.name == "task" else value.name, value, horizon)
    if not _takes(value, 3):
        raise TaskError(f"{where} is {_kind(value)}, neither a Task nor a training function.", DEFINE)
    return Target(label, value, _horizon(module, shown, where, horizon))


def _horizon(module: ModuleType, shown: str, where: str, asked: int | None) -> int:
    """Steps of a complete run of a training function: the option, else the module's own `horizon`."""
    if asked is not None:
        return asked
    for key in ("horizon", "HORIZON"):
        if hasattr(module, key):
            value = getattr(module, key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
            raise OptionError(
                f"`{key}` in {shown} is {value!r}, which is no number of steps.",
                "Set it to the steps of a complete run, 1 or more, or give --horizon STEPS.",
            )
    raise OptionError(
        f"{where} is a training function, and how long a complete run is stands nowhere.",
        f"Give --horizon STEPS, or define `horizon = ...` in {shown}.",
    )


def _instead(module: ModuleType, own: dict[str, Any], base: str) -> str:
    """What a module defines that looks like a task, or else how to define one."""
    looks = {
        k: v
        for k, v in own.items()
        if _is_task(v)
        or (inspect.isfunction(v) and v.__module__ == module.__name__ and "lr" in inspect.signature(v).parameters)
    }
    near = difflib.get_close_matches("task", looks, n=1, cutoff=0) or list(looks)[:1]
    if near:
        what = "a Task" if _is_task(looks[near[0]]) else "a function of lr"
        return f"It defines `{near[0]}`, {what}: give {base}:{near[0]}, or rename it."
    return DEFINE


def _is_task(value: Any) -> bool:
    from ..task import Task

    return isinstance(value, Task)


def _is_factory(value: Any, name: str) -> bool:
    """Whether a value makes a Task when called without arguments, rather than being a training function."""
    if not callable(value) or _is_task(value) or isinstance(value, type) or not _takes(value, 0):
        return False
    if not _takes(value, 3):
        return True
    return name != "run" and "lr" not in inspect.signature(value).parameters


def _takes(value: Any, count: int) -> bool:
    if not callable(value) or isinstance(value, type):
        return False
    from torch import nn

    if isinstance(value, nn.Module):
        return False
    try:
        inspect.signature(value).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # no signature to be read, as of built-in functions
        return count == 3
    return True


def _kind(value: Any) -> str:
    if inspect.isfunction(value):
        return f"a function of {inspect.signature(value)}"
    return f"the class {value.__name__}" if isinstance(value, type) else _a(type(value).__name__)


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"


def _call(make: Callable[[], Any], module: ModuleType, where: str) -> Any:
    try:
        return make()
    except (Exception, SystemExit) as error:
        raise TaskError(*blame(error, f"{where}, called to make the Task,", module.__file__)) from error
