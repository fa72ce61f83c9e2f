"""A log through a controller again: the same decisions to the bit, or those of other policies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ..errors import RecordError
from ..records.run import Decision, Note
from .controller import Controller
from .log import Log, observations_of
from .policies import Policy
from .run import Probe

__all__ = ["controller_of", "replay"]


def controller_of(log: Log, policies: Iterable[Policy[Any]] | None = None, act: bool | None = None) -> Controller:
    """The controller that the run began with.

    Args:
        log: of the run.
        policies: others than the run's; default None, those of the run.
        act: whether decisions are taken as carried out; default None, as in the run.

    Raises:
        RecordError: the log does not say what the run began with.
    """
    try:
        controller = Controller.from_json(log.header["controller"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"the log's header is damaged: {error!r}", "Replay a log that eta.watch wrote.") from error
    if policies is None and act is None:
        return controller
    run = controller.run if act is None else replace(controller.run, act=act)
    options = log.header["controller"]["options"]
    return Controller(
        run,
        controller.policies if policies is None else tuple(policies),
        **{**options, "bounds": tuple(options["bounds"])},
    )


def replay(log: Log, controller: Controller | None = None) -> Iterator[Note | Decision]:
    """What the controller says of the observations in a log, in order.

    Observations are what they were: what would have come after another decision is not known, so with other policies
    this is what they would have been told to do at each point of the run as it was.

    Args:
        log: of the run.
        controller: default None, the run's own, whose notes and decisions come out the same to the bit.
    """
    controller = controller or controller_of(log)
    for line in log.lines:
        kind = line["kind"]
        if kind == "steps":
            for seen in observations_of(line):
                controller.observe(seen.step, seen.loss, seen.lr, seen.grad)
                yield from _news(controller)
        elif kind == "val":
            controller.validate(line["step"], float(line["loss"]))
        elif kind == "probe":
            controller.probe(line["step"], Probe.from_json(line))
        elif kind == "changed":
            controller.changed(line["step"], float(line["found"]), float(line["written"]))
        elif kind == "schedule" and line.get("horizon") is not None:
            controller.extend(line["horizon"])
        elif kind == "lost":
            controller.lose(line["steps"])
        elif kind == "end":
            controller.end(line["step"], line["why"])
        yield from _news(controller)


def _news(controller: Controller) -> Iterator[Note | Decision]:
    if controller.news:
        yield from controller.news
        controller.news = []
