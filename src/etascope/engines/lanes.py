"""The lane engine: L trainings of one model as one, through `torch.func`.

Shapes stand in the names: L lanes, P optimized parameters of one lane (flattened and joined), T steps.

All lanes of a unit start from the same init and see the same batches; each has its own lr, buffers, optimizer state
and dropout noise. Every operation is batched over L, so no lane can reach another: one that becomes non-finite is
recorded with its step, then set to its init and left to run idle, since a smaller stack would change the others' noise.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from ..errors import EngineError, EtascopeError, TaskError
from ..records import Engine as Ran
from ..rules import read
from .base import Facts, OneByOne, Setting, Tick, Trained
from .blame import exited, user_code
from .loop import TICK, finished
from .prepared import Objective, Prepared, has_hooks
from .randomness import kept, seed_all

__all__ = ["Lanes", "Stack", "first_sentence", "quiet", "refusal", "refuse"]

LOOKS = 3  # batches that show whether every parameter has a gradient: layers may be dropped at random
NEXT_MOVE = "Use engine='loop', which trains anything that torch does; engine='auto' falls back by itself."


class Lanes(OneByOne):
    """Trains up to `ran.chunk` settings of one seed as one."""

    def __init__(self, prepared: Prepared, ran: Ran) -> None:
        self.prepared, self.ran = prepared, ran

    def facts(self, seed: int) -> Facts:
        """What the record should say of the task."""
        return self.prepared.facts(seed)

    def units(self, settings: Sequence[Setting]) -> list[list[Setting]]:
        """Settings of one seed together, in stacks of nearly equal size, at most `chunk` each."""
        out: list[list[Setting]] = []
        for _, same_seed in groupby(sorted(settings), key=lambda s: s.seed):
            lanes = list(same_seed)
            stacks = math.ceil(len(lanes) / self.ran.chunk)
            ends = [round(len(lanes) * (i + 1) / stacks) for i in range(stacks)]
            out += [lanes[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        return out

    def train(self, unit: Sequence[Setting], steps: int, rung: int, tick: Tick) -> Trained:
        """Train the unit's settings as one, each as a complete run of `steps` steps."""
        torch.set_num_threads(self.ran.threads)
        with quiet():
            return self._train(unit, steps, rung, tick)

    def _train(self, unit: Sequence[Setting], steps: int, rung: int, tick: Tick) -> Trained:
        p, task, seed = self.prepared, self.prepared.task, unit[0].seed
        judging = p.judging(steps)
        init = p.init_loss(seed, judging)
        stack = Stack(p, unit)
        multipliers = p.schedule.rescale(steps).multipliers().tolist()
        evaluate_at = {} if judging is None else judging.batches_at
        batches = p.batches(seed, rung)
        seed_all("noise", seed, rung)

        losses_TL: list[Tensor] = []
        val: list[tuple[int, Tensor]] = []
        eval_s, told = 0.0, 0
        for t in range(steps):
            step_batches = list(islice(batches, task.accumulate))
            try:
                losses_L = stack.step(step_batches, multipliers[t], t)
            except TaskError:
                if t == 0:
                    raise
                stack.undo()
                stack.bury(losses_TL, 0)
                stack.bury_raising(step_batches, t)
                losses_L = stack.step(step_batches, multipliers[t], t)  # raises again if it is no lane's divergence
            losses_TL.append(losses_L)
            if (which := evaluate_at.get(t + 1)) is not None:
                start = time.perf_counter()
                val.append((t + 1, stack.evaluate(which)))
                eval_s += time.perf_counter() - start
            if (t + 1) % TICK == 0:  # seldom, since reading a tensor waits for the device
                all_dead = stack.bury(losses_TL[-TICK:], t + 1 - TICK)
                done = int(torch.where(stack.dead_at_L < 0, t, stack.dead_at_L).sum()) + len(unit)
                tick(done - told)
                told = done
                if all_dead:
                    break
        stack.bury(losses_TL, 0)

        table = torch.stack(losses_TL).tolist()
        curves = []
        for k, setting in enumerate(unit):
            at = int(stack.dead_at_L[k])
            taken = [row[k] for row in table[: at + 1 if at >= 0 else steps]]
            points = [] if judging is None else [(0, init), *((s, float(v[k])) for s, v in val if at < 0 or s <= at)]
            curves.append(finished(setting, steps, taken, points, at if at >= 0 else None, init, p))
        tick(sum(c.trained for c in curves) - told)
        return Trained(tuple(curves), eval_s)


class Stack:
    """L models as one: parameters, buffers and optimizer state along a leading lane axis.

    Args:
        prepared: the task.
        unit: the lanes' settings, of one seed.
    """

    def __init__(self, prepared: Prepared, unit: Sequence[Setting]) -> None:
        self.prepared, self.seed = prepared, unit[0].seed
        n_lanes = len(unit)
        built = prepared.build(self.seed, unit[0].lr)
        self.objective = built.objective  # its own tensors stay at init
        optimizers = [built.optimizer, *(prepared.optimizer(built.objective.model, s.lr)[0] for s in unit[1:])]
        self.rule = read(optimizers, [s.lr for s in unit])

        names = {id(q): name for name, q in self.objective.named_parameters()}
        optimized = built.optimized
        _check_tensors(optimized, names)
        self.names = [names[id(q)] for q in optimized]
        self.shapes = [q.shape for q in optimized]
        self.init_P = torch.cat([q.detach().flatten() for q in optimized])
        self.params_LP = self.init_P.repeat(n_lanes, 1)
        self.state = self.rule.init(self.params_LP)
        chosen = {id(q) for q in optimized}
        self.frozen = {name: q.detach() for name, q in self.objective.named_parameters() if id(q) not in chosen}
        self.buffers = {
            name: b.detach().expand(n_lanes, *b.shape).clone() for name, b in self.objective.named_buffers()
        }
        self.moving: list[str] = []  # the buffers that training changes, known after the first step
        self.lr_L1 = torch.tensor([[s.lr] for s in unit], dtype=torch.float64, device=prepared.device)
        self.dead_at_L = torch.full((n_lanes,), -1, device=prepared.device)  # the step of the first bad loss
        self.views = self._views()

        def lane_loss(params: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            loss: Tensor = functional_call(self.objective, {**params, **self.frozen, **buffers}, (self.batch,))
            return loss

        self.batch: Any = None
        self._gradient: Callable[..., Any] = vmap(grad_and_value(lane_loss), randomness="different")
        self._loss: Callable[..., Tensor] = vmap(lane_loss, randomness="different")

    def _views(self) -> dict[str, Tensor]:
        views, at = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = shape.numel()
            views[name] = self.params_LP[:, at : at + size].view(-1, *shape)
            at += size
        return views

    def gradients(self, batches: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Gradients LP and losses L, averaged over the batches of one step."""
        grads_LP, losses_L = None, None
        for batch in batches:
            self.batch = batch
            grads, losses = self._gradient(self.views, self.buffers)
            flat_LP = torch.cat([grads[name].reshape(len(losses), -1) for name in self.names], dim=1)
            grads_LP = flat_LP if grads_LP is None else grads_LP + flat_LP
            losses_L = losses if losses_L is None else losses_L + losses
        assert grads_LP is not None and losses_L is not None
        n = len(batches)
        return (grads_LP, losses_L) if n == 1 else (grads_LP / n, losses_L / n)

    def step(self, batches: Sequence[Any], multiplier: float, t: int) -> Tensor:
        """One optimizer step of every lane at peak lr times `multiplier`; the losses L before it."""
        self.before = self._noise.get_state(), {name: self.buffers[name].clone() for name in self.moving}
        with user_code("loss"):
            grads_LP, losses_L = self.gradients(batches)
        if t == 0:
            at_init = dict(self.objective.named_buffers())
            self.moving = [name for name, b in self.buffers.items() if not torch.equal(b, at_init[name].expand_as(b))]
        if (clip_norm := self.prepared.task.clip_norm) is not None:
            norms_L1 = torch.linalg.vector_norm(grads_LP, dim=1, keepdim=True)
            grads_LP *= (clip_norm / (norms_L1 + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        params_LP, self.state = self.rule(self.params_LP, grads_LP, self.state, multiplier * self.lr_L1, t)
        if params_LP is not self.params_LP:
            self.params_LP = params_LP
            self.views = self._views()
        return losses_L.detach()

    def undo(self) -> None:
        """Take back what a step that raised has drawn, and the buffers it moved, for it will be taken again."""
        noise, moving = self.before
        self._noise.set_state(noise)
        for name, buffer in moving.items():
            self.buffers[name].copy_(buffer)

    @property
    def _noise(self) -> torch.Generator:
        """Where the lanes' noise comes from."""
        device = self.prepared.device
        if device.type != "cuda":
            return torch.default_generator
        return torch.cuda.default_generators[device.index or 0]

    def evaluate(self, which: tuple[int, ...]) -> Tensor:
        """The judged loss of every lane, L; nan where it raises."""
        if self.prepared.task.evaluate is None:
            try:
                return self.validate(which)
            except TaskError:
                pass  # one lane that diverged must not take its neighbours down
        with kept():
            values = [self.prepared.evaluate(self.lane(k), which, self.seed) for k in range(len(self.params_LP))]
        return torch.tensor(values, dtype=torch.float64)

    def validate(self, which: tuple[int, ...]) -> Tensor:
        """The validation loss of every lane, L, all at once."""
        losses_L: Tensor = self.prepared.weighted(self.objective, which, self._losses)
        return losses_L

    def _losses(self, batch: Any) -> Tensor:
        self.batch = batch
        try:
            losses_L = self._loss(self.views, self.buffers)
        except RuntimeError as error:
            if "atching rule not implemented" not in str(error):
                raise
            # torch's fused LSTM has no batching rule of its own; under a gradient it is taken apart into ones that do
            self._loss = lambda params, buffers: self._gradient(params, buffers)[1]
            with torch.enable_grad():
                losses_L = self._loss(self.views, self.buffers)
        return losses_L.double().cpu()

    def lane(self, k: int) -> Objective:
        """One lane's model as an ordinary module, sharing nothing with the stack."""
        objective = self.prepared.objective(self.seed)
        own = {name: t[k] for name, t in {**self.views, **self.buffers}.items()} | self.frozen
        with torch.no_grad():
            for name, tensor in [*objective.named_parameters(), *objective.named_buffers()]:
                tensor.copy_(own[name])
        return objective

    def bury(self, losses: Sequence[Tensor], first: int) -> bool:
        """Note the first non-finite loss, from step `first` on, of each living lane; whether all are dead."""
        bad_TL = ~torch.isfinite(torch.stack(list(losses)))
        new_L = bad_TL.any(0) & (self.dead_at_L < 0)
        if new_L.any():
            self.dead_at_L[new_L] = first + bad_TL.int().argmax(0)[new_L]
            self._idle(new_L)
        return bool((self.dead_at_L >= 0).all())

    def bury_raising(self, batches: Sequence[Any], t: int) -> None:
        """Bury the lanes on which the loss of step t raises, each by itself, though it does not at init."""
        if not all(self.prepared.accepts(self.seed, batch) for batch in batches):
            return
        with kept():
            raising = [any(self.prepared.raises(self.lane(k), b) for b in batches) for k in range(len(self.params_LP))]
        raising_L = torch.tensor(raising, device=self.dead_at_L.device)
        self.dead_at_L[raising_L & (self.dead_at_L < 0)] = t
        self._idle(raising_L)

    def _idle(self, lanes_L: Tensor) -> None:
        """Set lanes back to init, where the loss is known to be good (at zeros it need not be), and keep them there."""
        self.lr_L1[lanes_L] = 0
        self.params_LP[lanes_L] = self.init_P
        for tensor in self.state.values():
            tensor[lanes_L] = 0
        for name, at_init in self.objective.named_buffers():
            self.buffers[name][lanes_L] = at_init


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's warning that an operation is batched by a loop: slower, not wrong, and `auto` measures."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def refusal(prepared: Prepared, seed: int) -> str | None:
    """Why lanes cannot train the task, naming the module and the cause; None if they can.

    The task itself was checked before, so what fails here fails for `vmap`.
    """
    if prepared.task.precision != "fp32":
        return f"lanes train in fp32, and the task asks for precision={prepared.task.precision!r}"
    return _otherwise(prepared, seed) or _not_for_vmap(prepared, seed)


def _otherwise(prepared: Prepared, seed: int) -> str | None:
    """What lanes would train otherwise than torch does, without an error."""
    built = prepared.build(seed, 1e-3)
    named = {name.removeprefix("model."): q for name, q in built.objective.named_parameters()}
    if hooked := [name for name, q in named.items() if has_hooks(q)]:
        return f"its parameter {hooked[0]!r} has a gradient hook, which lanes do not call"
    optimized = {id(q) for q in built.optimized}
    buffers = dict(built.objective.named_buffers())
    batches = prepared.batches(seed, -1)
    for look in range(LOOKS):
        seed_all("check", seed, look)
        built.optimizer.zero_grad(set_to_none=True)
        with user_code("loss"):
            built.objective(next(batches)).backward()
        for name, buffer in built.objective.named_buffers():
            if buffer is not buffers.get(name):
                return f"it replaces its buffer {name.removeprefix('model.')!r} instead of changing it in place"
        if unused := [name for name, q in named.items() if q.grad is None and id(q) in optimized]:
            return f"its parameter {unused[0]!r} has no gradient, and torch's optimizers pass such parameters over"
    return None


def _not_for_vmap(prepared: Prepared, seed: int) -> str | None:
    """Why a stack of two cannot be made, or cannot take a gradient and an evaluation."""
    model = prepared.model(seed)
    try:
        stack = Stack(prepared, [Setting(seed, 1e-4), Setting(seed, 2e-4)])
        model = stack.objective.model
        batch = next(prepared.batches(seed, -1))
        seed_all("check", seed)
        with quiet():
            grads_LP, losses_L = stack.gradients([batch])
            if prepared.validation:
                stack.validate((0,))
    except EtascopeError as error:
        return error.cause.splitlines()[0]
    except SystemExit as error:
        raise exited("the task's loss", error) from error
    except Exception as error:
        return f"vmap cannot take {_module_of(error, model)}: {first_sentence(error)}"
    if losses_L.shape != (2,) or grads_LP.shape != stack.params_LP.shape:
        return "its loss does not keep lanes apart"
    return None


def refuse(reason: str) -> EngineError:
    """The error for an explicit `engine="lanes"` that cannot be."""
    return EngineError(f"the lane engine cannot train this task: {reason}.", NEXT_MOVE)


def _check_tensors(optimized: Sequence[Tensor], names: dict[int, str]) -> None:
    for q in optimized:
        if id(q) not in names:
            raise EngineError("an optimized tensor is not a parameter of the model", NEXT_MOVE)
        if q.is_sparse or q.dtype != optimized[0].dtype or not q.is_floating_point():
            raise EngineError(f"parameter {names[id(q)]} is {q.dtype}, and the others {optimized[0].dtype}", NEXT_MOVE)


def _module_of(error: BaseException, model: nn.Module) -> str:
    """The innermost module of the model whose code was running, by its name in the model."""
    names = {id(m): name for name, m in model.named_modules()}
    found = type(model).__name__
    tb = error.__traceback__
    while tb is not None:
        module = tb.tb_frame.f_locals.get("self")
        if isinstance(module, nn.Module) and not isinstance(module, Objective):
            name = names.get(id(module), "")
            found = f"{type(module).__name__}" + (f" ({name})" if name else "")
        tb = tb.tb_next
    return found


def first_sentence(error: BaseException) -> str:
    """What an exception says, in short."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(". ")[0][:200]
