"""`etascope watch`: a watched run, live or afterwards, and what other policies would have done."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import say

if TYPE_CHECKING:
    from rich.console import Console

    from ..records import Decision, Note
    from ..watcher import Controller, Log

__all__ = ["watch"]

PAUSE = 0.5  # seconds between two looks
NOT_KNOWN = "The observations are those of the run as it was; what would have come after another decision is not known."


def watch(
    run: Annotated[
        Path, typer.Argument(metavar="RUN.jsonl", help="The log that eta.watch writes.", show_default=False)
    ],
    once: Annotated[bool, typer.Option("--once", help="Print how it stands, once, instead of following it.")] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Decide again from the log, and compare; trains nothing.")
    ] = False,
    act: Annotated[bool, typer.Option("--act", help="With --replay: as if decisions had been carried out.")] = False,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLICY", help='With --replay: such as "rewind(factor=0.3)"; may be repeated. Default: the run\'s.'
        ),
    ] = None,
    why: Annotated[int | None, typer.Option(metavar="STEP", help="Why the lr was what it was at this update.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print plain data as JSON.")] = False,
) -> None:
    """Follow a watched run in the terminal: loss, lr, and what the checks say. Or replay it under other policies."""
    from ..errors import OptionError

    if (act or policy) and not replay:
        raise OptionError("--act and --policy are for --replay.", "Add --replay.")
    if replay:
        _replay(run, act, policy or [], as_json)
    elif why is not None:
        _why(run, why, as_json)
    elif once or as_json or not sys.stdout.isatty():
        _once(run, as_json)
    else:
        from rich.console import Console

        try:
            follow(run, Console(highlight=False))
        except KeyboardInterrupt:
            say("")


def follow(run: Path, console: Console, pause: float = PAUSE) -> None:
    """Show a run as it goes, until it ends."""
    from rich.live import Live
    from rich.text import Text

    from ..watcher import LogReader
    from .run_view import RunView

    reader, view = LogReader(run), RunView()
    lines, _ = reader.read()
    view.take(lines)
    began, first = time.monotonic(), view.steps
    with Live(console=console, auto_refresh=False) as live:
        while True:
            passed = time.monotonic() - began
            rate = (view.steps - first) / passed if passed > 0 and view.steps > first else None
            rows = max(3, console.height // 2 - 4)
            live.update(Text(view.text(console.width, rows, rate)), refresh=True)
            if view.ended is not None:
                return
            time.sleep(pause)
            lines, anew = reader.read()
            if anew:
                view, began = RunView(), time.monotonic()
            view.take(lines)
            if anew:
                first = view.steps


def _once(run: Path, as_json: bool) -> None:
    from ..watcher import read_log
    from .run_view import RunView

    log, view = read_log(run), RunView()
    view.take(log.lines)
    if as_json:
        say(json.dumps(view.data() | {"damaged": log.damaged}, allow_nan=False))
    else:
        say(view.text(rows=100) + (f"\n\n{log.damaged}" if log.damaged else ""))


def _why(run: Path, step: int, as_json: bool) -> None:
    from ..records.run import exact
    from ..watcher import read_log
    from ..watcher import why as why_of

    found = why_of(read_log(run), step)
    say(json.dumps(exact(vars(found)), allow_nan=False) if as_json else str(found))


def _replay(run: Path, act: bool, texts: list[str], as_json: bool) -> None:
    from ..watcher import controller_of, policies_of, policy_from, read_log
    from ..watcher import replay as again

    policies = policies_of([policy_from(text) for text in texts]) if texts else None
    log = read_log(run)
    controller = controller_of(log, policies, True if act else None)
    said = list(again(log, controller))
    own = policies is None and (not act or log.header.get("act"))
    same = _is_same(log, said) if own else None
    if as_json:
        say(json.dumps(_data(controller, said, same), allow_nan=False))
        return
    lines = [_heading(controller), *(f"{'▲' if hasattr(own, 'action') else '·'} {own}" for own in said)]
    if not said:
        lines.append("Nothing was said and nothing decided.")
    if same is None:
        lines += ["", NOT_KNOWN]
    else:
        there = "the same as in the log, to the bit" if same else "not those in the log"
        lines += ["", f"{len(said):,} notes and decisions, {there}."]
        if not same:
            lines.append("The log was written by another version of etascope, or changed since.")
    say("\n".join(lines) + (f"\n{log.damaged}" if log.damaged else ""))


def _is_same(log: Log, said: list[Note | Decision]) -> bool:
    """Whether what is said again is what was logged; of a log that was cut off, what came last may be missing."""
    logged = [{k: v for k, v in line.items() if k != "kind"} for kind in ("note", "decision") for line in log.of(kind)]
    again = [own.to_json() for own in said]
    if not any(log.of("end")):
        last = max((line["seen"] for line in log.lines if "seen" in line and line["kind"] != "steps"), default=-1)
        again = [own for own in again if own["seen"] <= last or own in logged]
    return sorted(map(_key, logged)) == sorted(map(_key, again))


def _key(own: dict[str, Any]) -> str:
    return json.dumps(own, sort_keys=True)


def _heading(controller: Controller) -> str:
    policies = ", ".join(map(repr, controller.policies)) or "no policies"
    return f"{policies}, {'acting' if controller.run.act else 'looking'}:"


def _data(controller: Controller, said: list[Note | Decision], same: bool | None) -> dict[str, Any]:
    decisions = [own.to_json() for own in said if hasattr(own, "action")]
    return {
        "policies": [repr(own) for own in controller.policies],
        "act": controller.run.act,
        "same": same,
        "factor": controller.factor,
        "stopped": controller.should_stop,
        "decisions": decisions,
        "notes": [own.to_json() for own in said if not hasattr(own, "action")],
    }
