"""A training loop of plain torch while it is watched: what is shown to the controller, and what is done about it."""

from __future__ import annotations

import contextlib
import os
import platform
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..attachment import Handle
from ..errors import OptionError, RecordError
from ..records.run import Decision, Note
from ..watcher import Controller, Log, LogWriter, Why, why
from ..watcher.log import log_of
from .control import Control, HandleControl, HookControl, lr_driven
from .hands import Hands
from .late import Late, Queue
from .losses import is_number, mean_of_all, no_loss, number_of, rank_and_size
from .norms import gradients, norm_later, norm_now
from .prober import Prober
from .scaling import scale_of
from .snapshots import Ring

__all__ = ["WATCHES", "Watch"]

B = TypeVar("B")
T = TypeVar("T")
STATE = "etascope.watch-state/1"
TOGETHER = 16  # observations that a watch that only looks shows its controller at once, while its code is in the caches
# One watch an optimizer.
WATCHES: weakref.WeakKeyDictionary[torch.optim.Optimizer, weakref.ref[Watch]] = weakref.WeakKeyDictionary()


class Watch:
    """What `watch` returns: `observe` each loss, and it does the rest.

    Attributes:
        decisions: what was decided so far.
        notes: what the checks noted so far. A watch that does not act looks at sixteen observations together, and at
            once where a loss is out of line, so that notes and ETA002 may come so much later.
        should_stop: whether a policy has stopped the run.
    """

    def __init__(
        self,
        model: nn.Module | Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        handle: Handle | None,
        scaler: Any,
        controller: Controller,
        ring: Ring | None,
        path: str | os.PathLike[str] | None,
        sinks: Sequence[Callable[[dict[str, Any]], object]],
        grad_every: int,
        probe_every: int,
    ) -> None:
        self.decisions: list[Decision] = []
        self.notes: list[Note] = []
        self._optimizer, self._handle, self._scaler = optimizer, handle, scaler
        self._controller, self._ring = controller, ring
        self._act, self._lag = controller.run.act, controller.run.lag
        self._control: Control = (
            HandleControl(handle) if handle is not None else HookControl(optimizer, controller.run.act)
        )
        models = [model] if isinstance(model, nn.Module) else list(model)
        self._hands = Hands(models, optimizer, scaler, self._control, ring)
        self._prober = Prober(models, optimizer, scaler, probe_every)
        self._path, self._sinks = None if path is None else Path(path), sinks
        self._log: LogWriter | None = None
        self._grad_every = grad_every
        self._until_grad = 0
        self._queue = Queue(self._lag) if self._lag else None
        self._put_off: list[tuple[int, float, float, float | None, list[float] | None]] = []
        self._last_step = 0
        self._altered = self._changed = False
        self._factor = 1.0
        self._scale = self._own = self._control.own
        self._given = None if handle is None else handle.given
        self._complained: set[str] = set()
        self._run_id = uuid.uuid4().hex
        self._closed = self._is_broken = False
        weakref.finalize(self, self._control.close)
        self._alone = True
        WATCHES[optimizer] = weakref.ref(self)

    # the loop

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close("stopped" if self.should_stop else "over")
            return
        with contextlib.suppress(Exception):  # the user's own is the one to be seen
            self.close(kind.__name__)

    def batches(self, loader: Iterable[B]) -> Iterator[B]:
        """The loader's batches, epoch after epoch, until the horizon's updates were made or a policy stops the run.

        Batches whose update was left out are made up for by others, so the schedule comes to its end. Where updates are
        no longer made at all (a gradient scaler whose scale has exploded) it ends too, with a warning: after twice as
        many batches without one as the horizon has updates, and a thousand more.

        Raises:
            OptionError: the horizon is not known, or the loader has no batch.
        """
        if self._controller.run.horizon is None:
            raise OptionError(
                "w.batches has no end, as the horizon is not known.",
                "Give watch(..., horizon=20_000), or loop over the loader itself.",
            )
        made, idle = self.step, 0  # batches since there was an update
        while not self._is_over():
            empty = True
            for batch in loader:
                empty = False
                yield batch
                if self._is_over():
                    return
                made, idle = (now, 0) if (now := self.step) != made else (made, idle + 1)
                if idle >= 2 * (horizon := self._controller.run.horizon or 0) + 1000:
                    said = f"After {idle:,} batches without an update only {made:,} of {horizon:,} updates were made"
                    self._tell_once(f"{said}: the loop is ended here.")
                    return
            if empty:
                raise OptionError("The loader has no batch (any more).", "Give one that can be iterated again.")

    def _is_over(self) -> bool:
        horizon = self._controller.run.horizon  # which `handle.extend` changes
        return self.should_stop or (horizon is not None and self._control.step >= horizon)

    def observe(self, loss: Any, closure: Callable[[], Any] | None = None) -> Decision | None:
        """Show the loss of an update to come: after `loss.backward()`, before `optimizer.step()`, once an update.

        With `act`, a decision has been carried out when it returns: gradients are gone where the update is left out.

        Args:
            loss: a tensor with one element, or a number; the mean over micro-batches where gradients are accumulated.
            closure: returns the loss of the present batch from a forward pass alone; where it is given, critical
                sharpness is probed now and then by up to nine calls. Default None.

        Returns:
            The decision, where there is an alarm, be it of a probe.

        Raises:
            OptionError: the loss is no number, and the watch acts. One that does not act says so once, in the log too,
                and takes no note of that observation.
        """
        if self._act:
            return self._observe(loss, closure)
        try:
            return self._observe(loss, closure)
        except Exception as error:
            self._give_up(error)
            return None

    def _observe(self, loss: Any, closure: Callable[[], Any] | None) -> Decision | None:
        if self._closed or self._is_broken:
            if not self._is_broken:
                self._complain("The watch is closed.", "Observe within its `with` block.")
            return None
        if self._log is None:
            self._begin()
        handle = self._handle
        if handle is not None and (handle.scale != self._scale or handle.given is not self._given):
            self._changed = True
        if self._changed or self._hands.passing:
            self._catch_up()
        if self._act and self._hands.has_changed():
            self._begin_snapshots_anew()
        if handle is not None and ((found := handle.altered()) is not None or self._altered):
            decision = self._see_altered(found)
            if decision is not None and decision.taken and decision.action in ("rewind", "stop"):
                return decision  # it was late, and this update is of weights that are gone
        lr = self._optimizer.param_groups[0]["lr"]
        if self._factor != 1.0 and handle is None:
            lr = lr * self._factor
        if type(lr) is not float:
            lr = self._number_of(lr, 0)
        if not is_number(loss):
            self._complain(no_loss(loss), "Give the loss that backward() was called on.")
            return None
        if self._queue is not None:
            return self._observe_late(self._queue, loss, lr)
        if not self._alone:
            loss = mean_of_all(loss, self._optimizer)
        value = loss.item() if isinstance(loss, Tensor) else number_of(loss)
        return self._observe_now(value, lr, closure) if self._act else self._observe_soon(value, lr, closure)

    def _observe_now(self, loss: float, lr: float, closure: Callable[[], Any] | None) -> Decision | None:
        """Show it to the controller, and do what that decides."""
        controller, control, log = self._controller, self._control, self._log
        assert log is not None
        is_out_of_line = controller.signals.is_out_of_line(loss)
        grad = self._grad(is_out_of_line)
        if self._ring is not None:
            self._look_for_snapshots(loss, grad)
        step = self._next_step()
        decision = controller.observe(step, loss, lr, grad)
        log.observe(controller.seen, step, loss, lr, grad, self._others(lr))
        control.made()
        if decision is None and self._ring is not None:
            self._hands.calm()
        if step >= self._prober.next:
            if decision is None or not decision.taken or decision.action == "restore":
                decision = self._probe(step, closure) or decision
            else:
                self._prober.reset()
        if controller.news or controller.turned or controller.factor != self._factor:
            self._follow_up(decision, pending=True)
        return decision

    def _observe_soon(self, loss: float, lr: float, closure: Callable[[], Any] | None) -> Decision | None:
        """Show it to the controller with others to come, or at once where it is out of line.

        This is most of what a watch that only looks does in an update, so it calls little.
        """
        is_out_of_line, grad = self._controller.signals.is_out_of_line(loss), None
        if self._until_grad <= 0 or is_out_of_line:
            grad = self._grad(is_out_of_line)
        else:
            self._until_grad -= 1
        step, put_off = self._control.step, self._put_off
        if step < self._last_step:
            step = self._next_step()
        self._last_step = step
        others = None if len(self._optimizer.param_groups) == 1 else self._others(lr)
        put_off.append((step, loss, lr, grad, others))
        if self._handle is None:
            self._control.made()
        is_due = step >= self._prober.next
        if not (is_out_of_line or is_due or len(put_off) >= TOGETHER):
            return None
        decision = self._catch_up_with_observations()
        if is_due:
            decision = self._probe(step, closure) or decision
            self._follow_up(None)
        return decision

    def _grad(self, is_out_of_line: bool) -> float | None:
        """The norm of the gradient, where it is due."""
        self._until_grad -= 1
        if self._until_grad >= 0 and not is_out_of_line:
            return None
        self._until_grad = self._grad_every - 1
        norm = norm_now(gradients(self._optimizer))
        if norm is None:
            self._tell_once("There is no gradient yet, where the loss is observed: observe after loss.backward().")
            return None
        scale = scale_of(self._scaler, self._optimizer)
        return norm if scale is None else norm / scale.item()

    def _next_step(self) -> int:
        """The update to come."""
        step = self._control.step
        if step < self._last_step:
            self._complain(
                f"The step went back from {self._last_step:,} to {step:,}.",
                "Load the watch's state with the handle's, or begin a new watch.",
            )
        self._last_step = step
        return step

    def validate(self, loss: Any) -> None:
        """Show a validation loss, now and then. After the end of the watch it is not noted, which is said once.

        Raises:
            OptionError: it is no number, and the watch acts.
        """
        if self._closed:
            self._tell_once("The watch is closed: validate within its `with` block. No note is taken of this loss.")
        elif not is_number(loss):
            self._complain(no_loss(loss), "Give the validation loss as a number.")
        elif not self._is_broken:
            self._attempt(lambda: self._validate(number_of(loss)), None)

    def _validate(self, value: float) -> None:
        if self._log is None:
            self._begin()
        assert self._log is not None
        self._drain()
        step = self.step
        self._log.write("val", {"seen": self._controller.seen, "step": step, "loss": value})
        self._controller.validate(step, value)
        self._follow_up(None)

    @property
    def step(self) -> int:
        """Updates made so far: the handle's, or those observed and not left out."""
        return self._control.step

    @property
    def acts(self) -> bool:
        """Whether decisions are carried out."""
        return self._act

    @property
    def should_stop(self) -> bool:
        """Whether a policy has stopped the run."""
        return self._controller.should_stop

    @property
    def log(self) -> Log:
        """What was logged so far."""
        if self._log is None:
            self._begin()
        assert self._log is not None
        if self._put_off and not self._is_broken:
            self._attempt(self._catch_up_with_observations, None)
        return self._log.log

    @property
    def faults(self) -> list[str]:
        """What went wrong beside the training: a log or a snapshot that could not be written."""
        faults = [] if self._log is None or self._log.fault is None else [str(self._log.fault)]
        return faults + ([self._ring.fault] if self._ring is not None and self._ring.fault else [])

    def why(self, step: int) -> Why:
        """Why the lr was what it was at an update, counted from 0.

        Raises:
            OptionError: the log has no such step.
        """
        return why(self.log, step)

    def checks(self) -> dict[str, str]:
        """Each check by its code: when it spoke last, "quiet", or why it does not apply.

        Empty where a watch that does not act has failed.
        """
        return {} if self._is_broken else self._attempt(self._checks, {})

    def _checks(self) -> dict[str, str]:
        if self._put_off:
            self._catch_up_with_observations()
        return self._controller.checks()

    def close(self, why: str = "over") -> None:
        """End the watch; the log says why. A second time it does nothing. What was cut from a handle's lr stays cut."""
        if self._closed:
            return
        try:
            if self._log is not None and not self._is_broken:
                self._attempt(lambda: self._end(why), None)
        finally:
            self._closed = True
            if self._log is not None:
                self._log.close()
            self._hands.step_is_over()
            self._control.close()
            if self._ring is not None:
                self._ring.close()
            WATCHES.pop(self._optimizer, None)

    def _end(self, why: str) -> None:
        assert self._log is not None
        self._drain()
        self._controller.end(self.step, why)
        self._follow_up(None)
        self._log.write("end", {"seen": self._controller.seen, "step": self.step, "why": why})

    # the state

    def state_dict(self) -> dict[str, Any]:
        """All of it, snapshots included, for `torch.save`; belongs into every checkpoint of a watch that acts.

        That of a watch that failed, which one that does not act survives, says only so: who loads it begins anew.
        """
        failed = {"schema": STATE, "failed": True}
        return failed if self._is_broken else self._attempt(self._state_dict, failed)

    def _state_dict(self) -> dict[str, Any]:
        if self._log is None:
            self._begin()
        assert self._log is not None
        self._drain()
        self._log.flush()
        self._prober.reset()  # a probe that was begun begins again, here as in the run that goes on from this state
        return {
            "schema": STATE,
            "run": self._run_id,
            "controller": self._controller.to_json(),
            "control": self._control.state_dict(),
            "ring": None if self._ring is None else self._ring.state_dict(),
            "prober": self._prober.state_dict(),
            "until_grad": self._until_grad,
            "factor": [self._factor, self._scale, self._own],
            "passing": self._hands.passing,
            "altered": self._altered,
            "lines": self._log.count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved watch stopped: decisions, factors, snapshots. Before or after the others' states.

        The log goes on too, where its file is there: what was logged after the state was saved is cut off.

        Raises:
            RecordError: no state of a watch, or one of a newer etascope.
            OptionError: this watch was given other policies, `act`, `lag`, `healthy`, `keep`, `bounds` or
                `interventions`; it has begun already; or the saved one had failed and this one acts. Whatever is
                raised, nothing was changed.
        """
        if not isinstance(state, dict) or state.get("schema") != STATE:
            raise RecordError("This is no state of a watch.", "Give what Watch.state_dict() returned.")
        if self._log is not None:
            raise OptionError("The watch has begun already.", "Load its state before the first observation.")
        if state.get("failed"):
            self._complain("The saved watch had failed before its state was saved.", "Begin anew, without that state.")
            return
        saved, here = Controller.from_json(state["controller"]), self._controller
        if [p.to_json() for p in saved.policies] != [p.to_json() for p in self._controller.policies]:
            raise OptionError(
                f"The saved watch has the policies {saved.policies!r}, and this one {self._controller.policies!r}.",
                "Give the same policies.",
            )
        if saved.run.act != self._act or saved.run.lag != self._lag:
            raise OptionError(
                f"The saved watch has act={saved.run.act} and lag={saved.run.lag}, and this one act={self._act} and "
                f"lag={self._lag}.",
                "Give the same.",
            )
        for name in ("healthy", "keep", "bounds", "interventions"):
            if getattr(saved, name) != getattr(here, name):
                cause = f"The saved watch has {name}={getattr(saved, name)}, and this one {getattr(here, name)}."
                raise OptionError(cause, "Give the same.")
        if self._ring is not None and state["ring"] is not None:
            self._ring.load_state_dict(state["ring"])  # which may raise, and comes first
        self._controller, self._run_id = saved, state["run"]
        self._control.load_state_dict(state["control"])
        self._prober.load_state_dict(state["prober"])
        self._until_grad = state["until_grad"]
        self._factor, self._scale, self._own = state["factor"]
        self._last_step = saved.view.step
        self._hands.passing, self._altered = state["passing"], state["altered"]
        self._changed = True
        self._begin(resumed=state["lines"])
        if here.run.horizon not in (None, saved.run.horizon):
            self._extend(here.run.horizon)
        self._forget_lost(self._hands.missing(saved))

    def load_with_others(self, state: dict[str, Any]) -> None:
        """As `load_state_dict`, for a framework that loads all its states at once, be it in the middle of a run.

        A watch that has begun by then, and does not act, stays as it is, and says so once.
        """
        if self._log is None:
            self.load_state_dict(state)
        else:
            self._complain("The watch has begun already.", "Load its state before the first observation.")

    # details: observations

    def _begin(self, resumed: int | None = None) -> None:
        """Begin the log, or go on with one of which so many lines were written when the state was saved."""
        controller = self._controller
        self._alone = not self._act or rank_and_size()[1] == 1
        if resumed is not None and self._path is not None and (there := log_of(self._path, self._run_id)) is not None:
            try:
                self._log = LogWriter.go_on(there, resumed, self._sinks)
            except RecordError as error:
                warnings.warn(f"The log of the run cannot be gone on with, and is begun anew: {error}", stacklevel=3)
        elif resumed is not None and self._path is not None and self._path.exists():
            warnings.warn(f"The log at {self._path} is not this run's, and its log is begun anew.", stacklevel=3)
        if self._log is None:
            try:
                self._log = LogWriter(self._path, self._header(), self._sinks)
            except RecordError as error:
                if self._act:
                    raise
                warnings.warn(f"The watch keeps its log in memory: {error}", stacklevel=3)
                self._log = LogWriter(None, self._header(), self._sinks)
                self._log.fault = error
        if resumed is not None:
            self._log.write("resumed", {"seen": controller.seen, "step": controller.view.step})
        elif self._own != 1.0:
            self._log_factors()

    def _header(self) -> dict[str, Any]:
        run, handle = self._controller.run, self._handle
        bound_schedule, _ = lr_driven(handle)
        return {
            "run": self._run_id,
            "optimizer": type(self._optimizer).__name__,
            "rule": run.rule,
            "schedule": None if bound_schedule is None else bound_schedule.to_json(),
            "peak": run.peak,
            "peaks": None if handle is None else handle.peaks,
            "horizon": run.horizon,
            "groups": len(self._optimizer.param_groups),
            "layers": self._prober.layers,
            "act": run.act,
            "policies": [repr(policy) for policy in self._controller.policies],
            "settings": {"grad_every": self._grad_every, "probe_every": self._prober.every, "lag": run.lag},
            "controller": self._controller.to_json(),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        }

    def _begin_snapshots_anew(self) -> None:
        """Param groups were added: what was kept before does not fit any more."""
        self._forget_lost(list(self._controller.steps_kept))
        self._prober.renew()

    def _look_for_snapshots(self, loss: float, grad: float | None) -> None:
        """Look whether the snapshots are there, before an observation that a rewind may be the answer to."""
        signals = self._controller.signals
        bad_grad = grad is not None and grad - grad != 0.0
        if bad_grad or loss > signals.high or signals.fast > signals.high or signals.is_out_of_line(loss):
            self._forget_lost(self._hands.missing(self._controller))

    def _forget_lost(self, steps: list[int]) -> None:
        """Snapshots that are not there, so that none is decided to be gone back to."""
        if not steps:
            return
        assert self._log is not None
        self._log.write("lost", {"seen": self._controller.seen, "step": self.step, "steps": steps})
        self._controller.lose(steps)
        if self._ring is not None and self._ring.fault:
            self._tell_once(
                f"A rewind can only go back to the snapshots that are left: {self._ring.fault}", about="snapshots"
            )

    def _others(self, lr: float) -> list[float] | None:
        groups = self._optimizer.param_groups
        if len(groups) == 1:
            return None
        factor = self._factor if self._handle is None else 1.0
        others = [self._number_of(group["lr"], i) * factor for i, group in enumerate(groups[1:], start=1)]
        return None if all(other == lr for other in others) else others

    def _number_of(self, lr: Any, group: int) -> float:
        """An lr; what the handle wrote into a tensor is not asked of its device."""
        if self._handle is not None and isinstance(lr, Tensor) and (wanted := self._handle.wanted[group]) is not None:
            return wanted
        return float(lr)

    def _observe_late(self, queue: Queue, loss: Any, lr: float) -> Decision | None:
        """Send it on its way, and see to those that have come."""
        if not isinstance(loss, Tensor):
            loss = torch.tensor(number_of(loss), dtype=torch.float64)
        self._until_grad -= 1
        norm = None
        if self._until_grad < 0:
            self._until_grad = self._grad_every - 1
            norm = norm_later(gradients(self._optimizer), loss.device)
            if norm is not None and (scale := scale_of(self._scaler, self._optimizer)) is not None:
                norm = norm / scale.to(norm.device)
        step = self._control.step
        loss = loss if self._alone else mean_of_all(loss, self._optimizer)
        queue.add(Late.of(step, lr, self._others(lr), loss, norm))
        self._control.made()
        probed = self._probe(step, None) if step >= self._prober.next else None
        if probed is not None:
            self._follow_up(probed, pending=True)
        return self._drain(at_once=self._controller.troubled, pending=True) or probed

    def _catch_up_with_observations(self) -> Decision | None:
        """Show the controller what was put off; returns the last decision."""
        controller, log, last = self._controller, self._log, None
        assert log is not None
        observed, self._put_off = self._put_off, []
        for step, value, lr, grad, others in observed:
            decision = controller.observe(step, value, lr, grad)
            log.observe(controller.seen, step, value, lr, grad, others)
            if controller.news or controller.turned:
                self._follow_up(decision)
            last = decision or last
        return last

    def _drain(self, at_once: bool = True, pending: bool = False) -> Decision | None:
        """Show the controller what has come, or all there is; returns the first decision."""
        first = self._catch_up_with_observations() if self._put_off else None
        queue, controller = self._queue, self._controller
        while queue is not None and (late := queue.next(at_once)) is not None:
            value, grad = late.take()
            if self._ring is not None:
                self._look_for_snapshots(value, grad)
            decision = controller.observe(late.step, value, late.lr, grad)
            assert self._log is not None
            self._log.observe(controller.seen, late.step, value, late.lr, grad, late.lrs)
            if decision is None and self._ring is not None:
                self._hands.calm()
            self._follow_up(decision, pending)
            first = first or decision
        return first

    def _probe(self, step: int, closure: Callable[[], Any] | None) -> Decision | None:
        """Have a look at every layer; the third one tells, and may raise an alarm."""
        if not self._act and self._hands.has_changed():  # where the watch acts, each observation looks
            self._prober.renew()
        probe = self._prober.look(step, self._controller.signals.lr, closure)
        if probe is None:
            return None
        assert self._log is not None
        self._log.write("probe", {"seen": self._controller.seen, "step": step, **probe.to_json()})
        return self._controller.probe(step, probe)

    def _see_altered(self, found: tuple[float, float] | None) -> Decision | None:
        """Somebody else wrote the lr, or has stopped doing so; returns what was decided of late observations."""
        late = None
        if found is not None and self._controller.run.peak is not None:
            if not self._altered:
                late = self._drain(pending=True)
                step, controller = self.step, self._controller
                about = {"seen": controller.seen, "step": step, "found": found[0], "written": found[1]}
                assert self._log is not None
                self._log.write("changed", about)
                decision = controller.changed(step, *found)
                self._follow_up(decision)
            if self._controller.follows:
                self._control.rewrite()
        self._altered = found is not None
        return late

    # details: decisions

    def _follow_up(self, decision: Decision | None, pending: bool = False) -> None:
        """Carry out what was decided, log it, and turn the ring of snapshots."""
        controller, log = self._controller, self._log
        assert log is not None
        if decision is not None and decision.taken:
            self._hands.carry_out(decision, pending)
            if decision.action in ("rewind", "stop"):
                self._changed = True
                if self._queue is not None:
                    self._queue.clear()
            if decision.action != "restore":
                self._prober.reset()
        if controller.news:
            for said in controller.news:
                (self.decisions if isinstance(said, Decision) else self.notes).append(said)  # type: ignore[arg-type]
                log.write("decision" if isinstance(said, Decision) else "note", said.to_json())
            controller.news = []
        if controller.turned:
            controller.turned = False
            if self._ring is not None:
                self._forget_lost(self._hands.turn(controller))
        if self._act and controller.factor != self._factor:
            self._changed = True

    def _catch_up(self) -> None:
        """What a decision asked for from the next update on."""
        if self._hands.passing:
            self._hands.step_is_over()
        if self._changed:
            self._changed = False
            self._factor = self._controller.factor if self._act else 1.0
            self._log_factors()
            if self._handle is not None and self._handle.given is not self._given:
                self._given, (bound, _) = self._handle.given, lr_driven(self._handle)
                self._drain()
                self._extend(self._controller.run.horizon if bound is None else bound.horizon)

    def _extend(self, horizon: int | None) -> None:
        """The run has another horizon, or another schedule, from here on."""
        controller, (bound, _), log = self._controller, lr_driven(self._handle), self._log
        assert log is not None
        said = None if bound is None else bound.to_json()
        log.write("schedule", {"seen": controller.seen, "step": self.step, "schedule": said, "horizon": horizon})
        controller.extend(horizon)

    def _log_factors(self) -> None:
        """Put the factor on the lr, and say what it is made of."""
        controller, log = self._controller, self._log
        assert log is not None
        self._scale, self._own = self._control.put(self._factor), self._control.own
        seen = controller.seen + 1 + len(self._put_off) + (0 if self._queue is None else len(self._queue))
        factors = {name: own for name, own in controller.factors.items() if own != 1.0} if self._act else {}
        log.write(
            "factors",
            {"seen": seen, "step": self.step, "scale": self._scale, "own": self._own, "factors": factors},
        )

    def _complain(self, cause: str, move: str) -> None:
        if self._act:
            raise OptionError(cause, move)
        self._tell_once(f"{cause} {move} The watch takes no note of it, and the training goes on.")

    def _tell_once(self, said: str, about: str = "") -> None:
        """Warn, and log it: once the same, or once about a thing."""
        if (about or said) not in self._complained:
            self._complained.add(about or said)
            warnings.warn(said, stacklevel=4)
            if self._log is not None and not self._closed:
                self._log.write("complaint", {"seen": self._controller.seen, "step": self.step, "said": said})

    def _attempt(self, do: Callable[[], T], otherwise: T) -> T:
        """What it returns; `otherwise` where it fails, and the watch does not act."""
        if self._act:
            return do()
        try:
            return do()
        except Exception as error:
            self._give_up(error)
            return otherwise

    def _give_up(self, error: Exception) -> None:
        """A watch that does not act is never in the way of the training."""
        self._is_broken = True
        with contextlib.suppress(Exception):
            self._tell_once(f"The watch failed, and looks no further; the training goes on: {error!r}")
