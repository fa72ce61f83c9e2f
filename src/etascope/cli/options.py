"""Arguments and options that more than one command has."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

__all__ = [
    "Device",
    "EngineChoice",
    "EngineOption",
    "Horizon",
    "JsonOption",
    "LrMax",
    "LrMin",
    "Out",
    "TargetArgument",
    "TracebackOption",
]


class EngineChoice(str, enum.Enum):
    """The engines that can be asked for."""

    auto = "auto"
    lanes = "lanes"
    loop = "loop"


TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="A built-in task (see `etascope tasks`), a file that defines `task` or `run`, file.py:name, "
        "or package.module:name.",
        show_default=False,
    ),
]
EngineOption = Annotated[EngineChoice, typer.Option(help="What trains: auto takes the faster that can.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
LrMin = Annotated[float | None, typer.Option(help="Smallest learning rate to try.", show_default=False)]
LrMax = Annotated[float | None, typer.Option(help="Largest learning rate to try.", show_default=False)]
Horizon = Annotated[
    int | None,
    typer.Option(help="Steps of a complete run, for a training function `run`.", show_default=False),
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Folder for the records and the report; that of an interrupted run is continued. "
        "Default: etascope-runs/DATE-TASK-N.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the record as JSON, and nothing else, on standard output.")
]
TracebackOption = Annotated[bool, typer.Option("--traceback", help="Print the whole traceback of an error.")]
