"""The commands, put together."""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ..errors import EtascopeError
from .diagnose import diagnose
from .find import find
from .output import complain, prepare_streams, say, unsayable
from .report import report
from .schedule import schedule
from .sweep import sweep
from .tasks import tasks
from .watch import watch

__all__ = ["app", "main"]


class Group(TyperGroup):
    """Keeps the arguments as they were typed, for the line that continues an interrupted command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and remember."""
        ctx.meta["etascope.argv"] = list(args)
        return super().parse_args(ctx, args)


# Plain help and plain errors: rich's would cost half of the start.
app = typer.Typer(
    name="etascope",
    cls=Group,
    help="Which learning rate, and why.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(find)
app.command()(sweep)
app.command()(tasks)
app.command()(report)
app.command()(diagnose)
app.command()(schedule)
app.command()(watch)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            say(f"etascope {version('etascope')}")
        except PackageNotFoundError:
            say("etascope, not installed (running from its sources)")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Which learning rate, and why."""


def main() -> None:
    """Run `etascope` with the arguments of this process, and exit."""
    prepare_streams()
    try:
        app(prog_name="etascope")
    except OSError as error:  # of `--help`, which typer prints
        _refuse(unsayable(error))
    except EtascopeError as error:  # of a command without a job
        _refuse(error)


def _refuse(error: EtascopeError) -> NoReturn:
    complain(f"Error: {error}")
    sys.exit(error.exit_code)
