"""`eta.watch`: what is given is checked, and made a watch of."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from ..attachment import Handle, inner_optimizer
from ..errors import OptionError, ScheduleError
from ..schedules import Bound, Schedule
from ..schedules.factors import Factor
from ..watcher import Controller, Policy, Run, follow, policies_of, rewind
from .control import lr_driven
from .live import WATCHES, Watch
from .losses import rank_and_size
from .snapshots import Ring
from .subject import Subject

__all__ = ["watch"]

DEFAULT: Final = (rewind(), follow())
LOG: Final = "watch.jsonl"
LAG = 8  # observations, on a GPU
GRADIENTS = 8  # observations between two gradient norms of a watch that does not act


def watch(
    model: nn.Module | Sequence[nn.Module],
    optimizer: torch.optim.Optimizer,
    *,
    schedule: Handle | None = None,
    scaler: Any = None,
    horizon: int | None = None,
    act: bool = False,
    policies: Iterable[Policy[Any] | Factor[Any]] | Policy[Any] | Factor[Any] = DEFAULT,
    log: str | os.PathLike[str] | None = LOG,
    sinks: Iterable[Callable[[dict[str, Any]], object]] = (),
    grad_every: int | None = None,
    probe_every: int | None = None,
    lag: int | None = None,
    snapshots: str | os.PathLike[str] | None = None,
    limit_bytes: int | None = None,
    every: int | None = None,
    healthy: int = 20,
    keep: int = 3,
    bounds: tuple[float, float] = (1e-3, 10.0),
    interventions: int = 1000,
) -> Watch:
    """Look after a training: signals, checks, decisions, and a log that says why the lr was what it was.

    Without `act` it only looks: the run is the same to the bit as without it, and what it would have done stands in
    the log. With `act` its decisions are carried out: updates left out, rewinds, lrs cut, stops. Where several
    processes train one model (DDP), each has a watch; one that acts goes by the mean of their losses, so that all
    decide alike, and all have to observe.

    Args:
        model: what is trained, one module or several.
        optimizer: what trains it.
        schedule: the handle that `attach` returned; default None: the lr is taken as the optimizer has it, whoever
            writes it, and factors are multiplied onto it around each update.
        scaler: the `torch.amp.GradScaler`, where there is one.
        horizon: updates of the complete run; default None, that of the schedule.
        act: whether decisions are carried out; default False.
        policies: what to do; default `rewind()` and `follow()`. Factors such as `eta.plateau()` go by `validate`.
        log: the JSONL file; one that is there is moved aside. None keeps the log in memory. Default "watch.jsonl", and
            in further processes of one training "watch.rank1.jsonl" and so on.
        sinks: functions that are shown each line of the log as plain data; `etascope.integrations.sinks` has some.
        grad_every: observations between two norms of the gradient; default 1 with `act`, else 8. A loss that is out of
            line is always looked at with it.
        probe_every: updates between two looks at every layer; default a hundredth of the horizon, at least 50; 0: none.
        lag: observations by which decisions come late; default 0 on the CPU, 8 elsewhere, so that a device is not
            waited for. A state that is rewound to is then up to so many updates later than the step that it is told by.
        snapshots: a folder for them; default None: in memory. Files that a saved state names stay there at the end.
        limit_bytes: of all snapshots together; default None, no limit.
        every: updates between two snapshots; default a 25th of the horizon, 25 to 500.
        healthy: observations in line after which a snapshot is good; default 20.
        keep: good snapshots that are kept; default 3.
        bounds: the least and the largest product of all factors on the lr; default a thousandth and 10.
        interventions: decisions that rewind, stop or change the lr, at most; default 1,000. What moves the lr all the
            time, as `pearce_hall` does, decides nothing, and is not counted; the log has its factors.

    Raises:
        OptionError: an argument cannot be used; the optimizer is watched already; or it is LBFGS, whose step computes
            gradients anew, and the watch is to act.

    >>> import etascope as eta
    >>> net = nn.Linear(2, 1)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> handle = eta.attach(eta.cosine(), sgd, horizon=40)
    >>> with watch(net, sgd, schedule=handle, log=None) as w:
    ...     for batch in w.batches([torch.ones(4, 2)]):
    ...         loss = (net(batch) - 1).square().mean()
    ...         loss.backward()
    ...         decision = w.observe(loss)
    ...         sgd.step()
    ...         sgd.zero_grad()
    >>> print(w.why(20))
    step 20: lr 5e-2 = peak 0.1 · schedule 0.5
    """
    given = tuple(policies_of(policies))
    optimizer = inner_optimizer(optimizer)
    _check_trained(model, optimizer, act)
    _check_parts(optimizer, schedule, scaler, sinks, act)
    bound_schedule, peak = lr_driven(schedule)
    horizon = horizon if horizon is not None or bound_schedule is None else bound_schedule.horizon
    _check_counts(1, horizon=horizon, grad_every=grad_every, every=every, keep=keep, limit_bytes=limit_bytes)
    _check_counts(0, probe_every=probe_every, lag=lag, healthy=healthy, interventions=interventions)
    _check_bounds(bounds)
    devices = {p.device.type for group in optimizer.param_groups for p in group["params"]}
    late = lag if lag is not None else (0 if devices <= {"cpu", "meta"} else LAG)
    run = Run(
        horizon=horizon,
        rule=type(optimizer).__name__.lower(),
        peak=peak,
        warmup=None if bound_schedule is None else _warmup(bound_schedule),
        scaled=scaler is not None and scaler.is_enabled(),
        lag=late,
        act=bool(act),
    )
    controller = Controller(
        run, given, every=every, healthy=healthy, keep=keep, bounds=bounds, interventions=interventions
    )
    if log == LOG and (rank := rank_and_size()[0]):
        log = f"watch.rank{rank}.jsonl"
    if probe_every is None:
        probe_every = max(50, (horizon or 5000) // 100)
    ring = None
    if act and any(policy.kind == "rewind" for policy in given):
        ring = Ring(Subject(model, optimizer, scaler), keep=keep, healthy=0, folder=snapshots, limit_bytes=limit_bytes)
    return Watch(
        model, optimizer, schedule, scaler, controller, ring, log, tuple(sinks),
        grad_every or (1 if act else GRADIENTS), probe_every,
    )  # fmt: skip


def _check_trained(model: Any, optimizer: torch.optim.Optimizer, act: bool) -> None:
    models = [model] if isinstance(model, nn.Module) else model if isinstance(model, Sequence) else []
    if not models or not all(isinstance(one, nn.Module) for one in models):
        raise OptionError(f"model is {model!r}.", "Give the torch.nn.Module that is trained, or a list of several.")
    if act and isinstance(optimizer, torch.optim.LBFGS):
        raise OptionError(
            "The step of LBFGS computes gradients anew, so an update cannot be left out.",
            "Only look (act=False), or train by an optimizer whose step takes the gradients that are there.",
        )


def _check_parts(optimizer: torch.optim.Optimizer, schedule: Any, scaler: Any, sinks: Any, act: bool) -> None:
    if schedule is not None and not isinstance(schedule, Handle):
        raise OptionError(
            f"schedule is a {type(schedule).__name__}, and a watch takes the handle of one.",
            "Give schedule=eta.attach(schedule, optimizer, lr=..., horizon=...).",
        )
    if schedule is not None and not schedule.is_on(optimizer):
        raise OptionError("The handle is not of this optimizer, or detached.", "Give the one that drives its lr.")
    if schedule is not None and act and None in schedule.wanted:
        raise OptionError(
            f"The handle does not drive the lr of param group {schedule.wanted.index(None)}, so no cut would reach it.",
            "Attach a schedule to every lr, eta.constant() where it is to stay; or watch without schedule=.",
        )
    if scaler is not None and not (hasattr(scaler, "is_enabled") and hasattr(scaler, "state_dict")):
        raise OptionError(f"scaler is a {type(scaler).__name__}.", "Give the torch.amp.GradScaler, or leave it out.")
    if not isinstance(sinks, Iterable):
        raise OptionError(f"sinks is {sinks!r}.", "Give them as a list: sinks=[...].")
    if (known := WATCHES.get(optimizer)) is not None and known() is not None:
        raise OptionError("The optimizer is watched already.", "Leave the other watch first: one optimizer, one watch.")


def _check_counts(least: int, **counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise OptionError(f"{name} is {value!r}.", f"Give a whole number of at least {least}.")


def _check_bounds(bounds: Any) -> None:
    numbers = isinstance(bounds, Sequence) and len(bounds) == 2 and all(isinstance(b, Real) for b in bounds)
    if not (numbers and 0 < bounds[0] <= 1 <= bounds[1] < math.inf):
        raise OptionError(f"bounds are {bounds!r}.", "Give the least and the largest factor on the lr: (1e-3, 10.0).")


def _warmup(bound_schedule: Bound) -> int | None:
    """The updates before the schedule is at its highest for the first time; 0 where it begins there.

    None where a function of the user's is part of it: that is only ever asked for the present step.
    """
    try:
        Schedule.from_json(bound_schedule.to_json())
    except ScheduleError:
        return None
    values = bound_schedule(np.arange(min(bound_schedule.horizon, 100_000)))
    highest = float(values.max())
    return int((values >= highest * (1 - 1e-9)).argmax())
