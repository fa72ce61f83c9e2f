"""The controller: observations in, decisions out. No torch, no clock, no files, no randomness.

    controller = Controller(Run(horizon=20_000), (rewind(),))
    decision = controller.observe(step, loss, lr, grad)       # before each update

The same observations in the same order give the same decisions to the bit, in a live run, in a replay of its log, and
after `from_json(to_json())`. What it wants done it says in attributes that hold until the next call: `take` (keep this
state of the model), `steps_kept` (which states to keep), `factor` (on the lr); `turned` says that the states have
changed, until it is set to False.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from .. import numbers as n
from ..records.run import Decision, Note, exact
from .checks import CHECKS, Event, NoteCheck, View
from .checks.eta001_non_finite import NonFinite
from .checks.eta002_diverging import Diverging
from .checks.eta003_spike import Spike
from .checks.eta005_edge import Edge
from .checks.eta013_changed import Changed
from .policies import Alarm, Answer, Policy, Scene, name_of
from .run import Probe, Run
from .signals import Level, Signals

__all__ = ["Controller", "Kept"]

QUIET = 50  # observations after an alarm that nobody acted on before there can be another
LOOKED = 4  # blocks between two looks of checks that are not urgent, which would be most of what a watch costs
BETWEEN = 6  # blocks between two alarms of ETA005
APART = 10  # blocks between two notes of one check
FIRST_PROBES, LAST_PROBES = 3, 8  # kept
TOLERATED = 20  # gradients in a row that a gradient scaler may overflow while it looks for its scale
ON_UPDATE = (NonFinite(), Spike())
NOTES = {event: [c for c in CHECKS if isinstance(c, NoteCheck) and event in c.on] for event in get_args(Event)}
URGENT = {event: [check for check in checks if check.urgent] for event, checks in NOTES.items()}
ON_WEIGHTS = Diverging()
ON_PROBE = Edge()


@dataclass(frozen=True)
class Kept:
    """A state of the model that can be gone back to.

    Attributes:
        step: updates made before it.
        seen: the observation it was taken at.
        where: where the loss was.
        good: whether enough observations in line have come since.
    """

    step: int
    seen: int
    where: Level
    good: bool = False


class Controller:
    """Watches one run.

    Args:
        run: what is known of it.
        policies: what to do about it; the first that answers an alarm is followed, the factors of all multiply.
        every: updates between two states that are kept; default a 25th of the horizon, 25 to 500.
        healthy: observations in line after which a kept state is good; default 20.
        keep: good states that are kept; default 3.
        bounds: the least and the largest product of all factors; default a thousandth and 10.
        interventions: decisions that rewind, stop or change the lr, carried out at most; default 1,000.
    """

    def __init__(
        self,
        run: Run,
        policies: Sequence[Policy[Any]] = (),
        *,
        every: int | None = None,
        healthy: int = 20,
        keep: int = 3,
        bounds: tuple[float, float] = (1e-3, 10.0),
        interventions: int = 1000,
    ) -> None:
        self.run, self.policies = run, tuple(policies)
        self.every = every or max(25, min(500, (run.horizon or 2500) // 25))
        self.healthy, self.keep, self.interventions = healthy, keep, interventions
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.signals = Signals(run.horizon)
        self.view = View(run, self.signals)
        self.seen = -1
        self.kept: list[Kept] = []
        self.take = self.turned = self.should_stop = False
        self.acted = 0
        self._product = 1.0
        self.factor, self.factors = 1.0, {name_of(policy): 1.0 for policy in self.policies}
        self.news: list[Note | Decision] = []  # since they were last taken away
        self._states: list[Any] = [policy.init() for policy in self.policies]
        self._quiet = self._overflows = self._skips = 0
        self._retry = 0  # the observation from which on a state may be asked for again
        self._rewound = False  # and no loss in line since
        self._bad = math.nan  # the first loss whose update was left out
        self._phase, self._direction = 0, 0
        self._spoken: dict[str, tuple[int, int]] = {}  # code, or code and event -> (phase, block)
        self._attending: list[int] = []
        self._refactor()

    # what comes in

    def observe(self, step: int, loss: float, lr: float, grad: float | None = None) -> Decision | None:
        """One loss, before its update.

        Args:
            step: updates made so far.
            loss: the loss of the batch.
            lr: the lr of the first param group.
            grad: the norm of the whole gradient, where it was taken; default None.

        Returns:
            A decision where there is an alarm.
        """
        self.seen += 1
        self.take = False
        self.view.step = step
        signals = self.signals
        finite_grad = grad is None or grad - grad == 0.0
        if not finite_grad and self.run.scaled and self._overflows < TOLERATED:
            self._overflows += 1  # the scaler skips this update by itself
            self._doubt()
            grad, finite_grad = None, True
        elif grad is not None and finite_grad:
            self._overflows = 0
        if not finite_grad or signals.is_out_of_line(loss):
            return self._out_of_line(loss, lr, grad)
        ended = signals.fold(step, loss, lr, grad)
        if signals.fast > signals.high and not self._quiet and signals.is_astray:
            alarm = ON_WEIGHTS.alarm(self.view, loss, grad)
            if alarm is not None:
                if ended:
                    self._end_block()
                return self._decide(alarm, lr)
        self._in_line(step, loss, lr)
        return self._end_block() if ended else None

    def validate(self, step: int, loss: float) -> None:
        """A validation loss."""
        self.view.step = step
        self.view.validations.append((step, loss, self.signals.level))
        for i, policy in enumerate(self.policies):
            self._by_itself(i, *policy.validated(self._states[i], loss, self._scene(self.signals.lr)))
        self._refactor()
        self._look("validation", {})

    def probe(self, step: int, probe: Probe) -> Decision | None:
        """What was sampled; a decision where that raises an alarm."""
        self.view.step = step
        probes = self.view.probes
        probes.append((step, probe))
        if len(probes) > FIRST_PROBES + LAST_PROBES:
            del probes[FIRST_PROBES]
        for i, policy in enumerate(self.policies):
            self._by_itself(i, *policy.probed(self._states[i], probe, self._scene(self.signals.lr)))
        self._refactor()
        self._look("probe", {})
        return self._look_at_edge(self.signals.lr)

    def changed(self, step: int, found: float, written: float) -> Decision | None:
        """Somebody else has written the lr."""
        self.view.step = step
        said = self._look("lr", {"found": found, "written": written})
        if said is None:
            return None
        return self._decide(Alarm(Changed.code, said.said, said.numbers, self.signals.loss, of="schedule"), written)

    def extend(self, horizon: int | None) -> None:
        """The run has another horizon from here on."""
        self.run = self.view.run = replace(self.run, horizon=horizon)

    def lose(self, steps: Sequence[int]) -> None:
        """States of the model that were to be kept are not there; one that could not be taken is asked for later."""
        if self.take:
            self._retry = self.seen + self.every
            self.take = False
        self.kept = [kept for kept in self.kept if kept.step not in steps]
        self.turned = True

    def end(self, step: int, why: str) -> None:
        """The run is over; `why` is "over", "stopped", or the name of what was raised."""
        self.view.step = step
        self._look("end", {"why": why})

    # what it wants

    @property
    def steps_kept(self) -> tuple[int, ...]:
        """The steps of all states that may be gone back to."""
        return tuple(kept.step for kept in self.kept)

    @property
    def troubled(self) -> bool:
        """Whether a policy is in the midst of something, so that decisions must not come late."""
        return self.run.act and (self._rewound or self._skips > 0)

    @property
    def follows(self) -> bool:
        """Whether the schedule's lr is to be written again where somebody else has written another."""
        return self.run.act and "follow" in self.factors

    def checks(self) -> dict[str, str]:
        """Each check by its code: in which block it spoke last, "quiet", or why it does not apply."""
        return {
            check.code: check.inapplicable(self.view)
            or (f"spoke, last in block {max(last)}" if (last := self._blocks_of(check.code)) else "quiet")
            for check in CHECKS
        }

    def _blocks_of(self, code: str) -> list[int]:
        return [block for key, (_, block) in self._spoken.items() if key.partition(" ")[0] == code]

    # observations

    def _out_of_line(self, loss: float, lr: float, grad: float | None) -> Decision | None:
        if self._quiet:  # nobody acted on the alarm before this
            self._quiet -= 1
            if self._quiet == 0:
                if math.isfinite(loss):
                    self.signals.accept(loss)
                else:
                    self._quiet = QUIET
            return None
        for check in ON_UPDATE:
            if (alarm := check.alarm(self.view, loss, grad)) is not None:
                return self._decide(alarm, lr)
        return None

    def _in_line(self, step: int, loss: float, lr: float) -> None:
        if self._quiet:
            self._quiet -= 1
            if self._quiet == 0 and self.signals.is_astray:
                self.signals.accept(self.signals.fast)
        if self._skips:
            self._look("data", {"loss": self._bad, "skips": self._skips})
            self._skips = self.view.held = 0
        self._rewound = False
        if self._attending:
            scene = self._scene(lr)
            for i in self._attending:
                self._by_itself(i, *self.policies[i].observed(self._states[i], loss, scene))
            self._refactor()
        kept = self.kept
        if self._overflows:  # an exploded scale is not to be kept
            return
        if kept and not kept[-1].good and kept[-1].seen <= self.seen - self.healthy:
            self.turned = True
            kept[-1] = Kept(kept[-1].step, kept[-1].seen, kept[-1].where, True)
            del kept[: -self.keep]
        if self.seen < self._retry:
            return
        if not kept:
            kept.append(Kept(step, self.seen, self.signals.where, True))
            self.take = self.turned = True
        elif step >= kept[-1].step + self.every and kept[-1].good and not self._quiet and self.signals.is_settled:
            kept.append(Kept(step, self.seen, self.signals.where))
            self.take = self.turned = True

    def _doubt(self) -> None:
        """What was taken shortly before something went wrong is not to be trusted."""
        if self.kept and not self.kept[-1].good:
            self.turned, self.take = True, False
            self.kept.pop()

    def _end_block(self) -> Decision | None:
        blocks = self.signals.blocks
        if len(blocks) > 1:
            before, now = blocks[-2].lr, blocks[-1].lr
            direction = (now > before * 1.001) - (now < before * 0.999)
            if direction != self._direction:
                self._direction = direction
                self._phase += 1
        self._look("block", {}, urgent=self.signals.ended % LOOKED > 0)
        return self._look_at_edge(self.signals.lr)

    def _look_at_edge(self, lr: float) -> Decision | None:
        """ETA005 looks at probes and blocks, not at one loss; after an alarm it waits for others."""
        if self._quiet or self._skips or self._rewound:
            return None
        spoken = self._spoken.get(ON_PROBE.code)
        if spoken is not None and self.signals.ended - spoken[1] < BETWEEN:
            return None
        alarm = ON_PROBE.alarm(self.view, self.signals.loss, None)
        return None if alarm is None else self._decide(alarm, lr)

    # decisions

    def _scene(self, lr: float) -> Scene:
        good = tuple(kept.step for kept in self.kept if kept.good)
        late, product = self.run.lag > 0 and not self.troubled, self._product if self.run.act else 1.0
        return Scene(self.signals, self.view.step, good, lr, late, product, self.bounds)

    def _decide(self, alarm: Alarm, lr: float) -> Decision:
        scene, act = self._scene(lr), self.run.act
        if alarm.of != "schedule":
            self._doubt()
        alarm = self._with_leap(alarm)
        answer, by = None, ""
        for i, policy in enumerate(self.policies):
            state, answer = policy.alarmed(self._states[i], alarm, scene)
            if answer is not None:
                by = name_of(policy)
                if act and not self._may(answer):
                    said = f"{n.plural(self.acted, 'intervention')} were made, and no more are allowed"
                    answer = Answer("none", said)
                elif act:
                    self._states[i] = state
                break
        self._spoken[alarm.code] = self._phase, self.signals.ended
        return self._carry_out(alarm, answer, by, lr)

    def _with_leap(self, alarm: Alarm) -> Alarm:
        """The alarm, and that the lr has leapt shortly before, if it has."""
        signals = self.signals
        if not signals.leap_left or alarm.of not in ("update", "weights"):
            return alarm
        said = (
            f"{alarm.said}, after the lr leapt {signals.leap:.3g}-fold at step {signals.leap_step:,}, beyond all before"
        )
        return replace(
            alarm, said=said, numbers={**alarm.numbers, "leap": signals.leap, "leap_step": signals.leap_step}
        )

    def _carry_out(self, alarm: Alarm, answer: Answer | None, by: str, lr: float) -> Decision:
        act = self.run.act and answer is not None
        to: Kept | None = None
        if answer is not None and answer.action in ("rewind", "stop"):
            good = [kept for kept in self.kept if kept.good]
            to = good[-1 - answer.back] if good else None
        if act and answer is not None:
            if to is not None:
                del self.kept[self.kept.index(to) + 1 :]
                self.turned = True
                self.signals.go_back(to.where, alarm.loss if alarm.of == "update" else math.nan)
                self._skips, self._rewound = 0, True
            if answer.action == "skip":
                self._skips += 1
                if self._skips == 1:
                    self._bad = math.nan if alarm.code == NonFinite.code else alarm.loss
                self.view.skipped += 1
                self.view.held = self._skips if self._rewound else 0
            if answer.anew:  # it was no bad batch then
                self.signals.accept(alarm.loss)
                self._skips = self.view.held = 0
            self.should_stop = self.should_stop or answer.action == "stop"
            self._refactor()
        if answer is None or answer.action == "none" or not act:
            self._quiet = self._quiet if alarm.of == "schedule" else QUIET
        would = "" if act or answer is None else "would be done: "
        said = alarm.said if answer is None else f"{alarm.said}; {would}{answer.said}"
        decision = Decision(
            self.seen, self.view.step, alarm.code, by, answer.action if answer else "none", act, said,
            {**alarm.numbers, **(answer.numbers if answer else {})}, to.step if to else None, self.factor,
        )  # fmt: skip
        self.news.append(decision)
        return decision

    def _may(self, answer: Answer) -> bool:
        """Whether an intervention is still allowed, which counts it."""
        if answer.action not in ("rewind", "scale", "stop"):
            return True
        if self.acted >= self.interventions:
            return False
        self.acted += 1
        return True

    def _by_itself(self, i: int, state: Any, answer: Answer | None) -> None:
        """A policy goes on, and may act without an alarm: its factor, or a stop."""
        act, policy = self.run.act, self.policies[i]
        if act and answer is not None and not self._may(answer):
            return
        self._states[i] = state
        if answer is None:
            return
        self._refactor()
        if act and answer.action == "stop":
            self.should_stop = True
        would = "" if act else "would be done: "
        self.news.append(
            Decision(
                self.seen, self.view.step, "", name_of(policy), answer.action, act, would + answer.said,
                dict(answer.numbers), None, self.factor,
            )
        )  # fmt: skip

    def _refactor(self) -> None:
        """The factors that follow from the states."""
        product = 1.0
        attending: list[int] = []
        for i, (policy, state) in enumerate(zip(self.policies, self._states, strict=True)):
            own = policy.on_lr(state)
            self.factors[name_of(policy)] = own
            product *= own
            if policy.attends(state):
                attending.append(i)
        self._attending, self._product = attending, product
        self.factor = min(self.bounds[1], max(self.bounds[0], product))

    # notes

    def _look(self, event: Event, about: dict[str, Any], urgent: bool = False) -> Any:
        said = None
        at = self._phase, self.signals.ended
        often = event in ("block", "validation", "probe") or (event == "data" and not self.view.held)
        for check in (URGENT if urgent else NOTES)[event]:
            if check.inapplicable(self.view):
                continue
            key = check.code if often else f"{check.code} {event}"  # a bad batch is not to hide a dead layer
            before = self._spoken.get(key)
            if often and before is not None and (before[0] == at[0] or at[1] - before[1] < APART):
                continue
            if (said := check.look(self.view, about)) is not None:
                self._spoken[key] = at
                self.news.append(Note(self.seen, self.view.step, check.code, said.said, said.move, dict(said.numbers)))
        return said

    # the state

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, floats to the bit."""
        view = self.view
        return {
            "run": self.run.to_json(),
            "policies": [policy.to_json() for policy in self.policies],
            "states": [p.state_to_json(s) for p, s in zip(self.policies, self._states, strict=True)],
            "options": {
                "every": self.every, "healthy": self.healthy, "keep": self.keep, "bounds": list(self.bounds),
                "interventions": self.interventions,
            },
            "signals": self.signals.to_json(),
            "seen": self.seen,
            "step": view.step,
            "skipped": view.skipped,
            "held": view.held,
            "validations": exact(view.validations),
            "probes": [[step, exact(probe.to_json())] for step, probe in view.probes],
            "kept": [exact([k.step, k.seen, k.where.level, k.where.spread, k.where.fast, k.good]) for k in self.kept],
            "should_stop": self.should_stop,
            "acted": self.acted,
            "quiet": self._quiet,
            "overflows": self._overflows,
            "skips": self._skips,
            "rewound": self._rewound,
            "retry": self._retry,
            "bad": exact(self._bad),
            "phase": [self._phase, self._direction],
            "spoken": {code: list(at) for code, at in self._spoken.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Controller:
        """The inverse of `to_json`."""
        options = dict(data["options"])
        options["bounds"] = tuple(options["bounds"])
        policies = [Policy.from_json(own) for own in data["policies"]]
        controller = cls(Run.from_json(data["run"]), policies, **options)
        controller._states = [p.state_from_json(s) for p, s in zip(policies, data["states"], strict=True)]
        controller.signals = Signals.from_json(data["signals"])
        controller.view = View(
            controller.run,
            controller.signals,
            data["step"],
            [(int(step), float(loss), float(level)) for step, loss, level in data["validations"]],
            [(int(step), Probe.from_json(probe)) for step, probe in data["probes"]],
            data["skipped"],
            data["held"],
        )
        controller.seen, controller.acted, controller.should_stop = data["seen"], data["acted"], data["should_stop"]
        controller.kept = [
            Kept(int(step), int(seen), Level(float(level), float(spread), float(fast)), bool(good))
            for step, seen, level, spread, fast, good in data["kept"]
        ]
        controller._quiet, controller._overflows = data["quiet"], data["overflows"]
        controller._skips, controller._rewound, controller._bad = data["skips"], data["rewound"], float(data["bad"])
        controller._phase, controller._direction = data["phase"]
        controller._retry = data["retry"]
        controller._spoken = {code: (at[0], at[1]) for code, at in data["spoken"].items()}
        controller._refactor()
        return controller
