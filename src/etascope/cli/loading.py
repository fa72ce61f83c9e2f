"""Import the user's file or module, and say which line of it fails."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from ..errors import EtascopeError, OptionError, TaskError

__all__ = ["blame", "load_file", "load_module"]


def load_file(path: Path) -> ModuleType:
    """Run a file as a module; what stands under `if __name__ == "__main__"` is not run.

    Its folder goes on `sys.path` and the module into `sys.modules`, and both stay: worker processes and later
    imports need them. Nothing is written beside it (no `__pycache__`).

    Raises:
        OptionError: there is no such file.
        TaskError: it raises.
    """
    if not path.is_file():
        said = f"{path} is a folder." if path.is_dir() else f"there is no file {path}."
        raise OptionError(said, _near(path))
    path = path.resolve()
    if (folder := str(path.parent)) not in sys.path:
        sys.path.insert(0, folder)
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:  # for every *.py there is a loader
        raise OptionError(f"{path} is not a Python file.", "Give a file that ends in .py.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise TaskError(*blame(error, path.name, str(path))) from error
    return module


def load_module(name: str) -> ModuleType:
    """Import a module by its dotted name, looking in the current folder first.

    Raises:
        OptionError: there is no such module.
        TaskError: it raises.
    """
    if (folder := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if not name or (missing is not None and (name == missing or name.startswith(f"{missing}."))):
            raise OptionError(
                f"there is no module {name!r} in {folder} or among the installed packages.",
                "Check the name; a file can also be given as path/to/file.py:name.",
            ) from None
        spec: ModuleSpec | None = None
        with suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(name)
        raise TaskError(*blame(error, name, spec.origin if spec else None)) from error


def blame(error: BaseException, what: str, file: str | None) -> tuple[str, str]:
    """Cause and next move for an error of the user's own code: the file and line that failed, and how.

    Args:
        error: what was raised.
        what: the file, module or function that was run, for the beginning of the sentence.
        file: where that is written; the innermost line in its folder is named.
    """
    line = _line(error, file)
    if isinstance(error, SystemExit):
        return (
            f"{what} ended the program{line}, by sys.exit({error.code!r}).",
            'Put what is only for running it as a script under `if __name__ == "__main__":`.',
        )
    if isinstance(error, SyntaxError):
        return f"{what} is not valid Python{line}: {error.msg}", "Correct the file, then repeat the command."
    if isinstance(error, EtascopeError):
        return f"{what} cannot be used{line}: {error.cause}", error.next_move
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{what} raises{line}: {said}", "Correct it, then repeat the command."


def _line(error: BaseException, file: str | None) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({Path(error.filename).name}:{error.lineno})"
    folder = Path(file).parent if file else Path.cwd()
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if folder in path.parents and "site-packages" not in path.parts:
            place = f" ({path.relative_to(folder)}:{frame.lineno})"
    return place


def _module_name(path: Path) -> str:
    """The file's own name, which worker processes can import, unless that is another module's."""
    stem = path.stem
    taken = sys.modules.get(stem)
    if taken is None and stem.isidentifier():
        spec = None
        with suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(stem)
        if spec is None or spec.origin == str(path):
            return stem
    elif taken is not None and getattr(taken, "__file__", None) == str(path):
        return stem
    return f"etascope_task_{''.join(c if c.isalnum() else '_' for c in stem)}"


def _near(path: Path) -> str:
    if path.is_dir():
        return "Give a file in it."
    folder = path.parent
    names = [p.name for p in folder.glob("*.py")] if folder.is_dir() else []
    if not folder.is_dir():
        return f"There is no folder {folder} either."
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {folder / near[0]}?"
    return f"Check the path; you are in {Path.cwd()}."
