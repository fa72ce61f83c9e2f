"""L models as one, through `torch.func`.

Shapes stand in the names: L lanes, P optimized parameters of one lane (flattened and joined), I inits.

Every operation is batched over L, so no lane can reach another. What is the same for all of them is held once, and
not batched: frozen parameters, buffers that training does not change, and the batch, where all see the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vmap

from ..errors import EngineError, TaskError
from ..rules import UpdateFunction, read
from .apart import Apart, filled, finite
from .base import Setting
from .blame import out_of_memory, user_code
from .compiled import COMPILED_AT
from .data import tensors
from .lane_functions import LaneFunctions
from .lane_scaler import LaneScaler
from .loop import SKIPS
from .memory import keep_freed
from .options import Split, dropouts
from .prepared import Objective, Prepared
from .randomness import kept, seed_all
from .replay import BRIEF, THOROUGH, Memory, Replay
from .update import compiled_update

__all__ = ["NEXT_MOVE", "Stack", "quiet", "stackable"]

NEXT_MOVE = "Use engine='loop', which trains anything that torch does; engine='auto' falls back by itself."
IN_PLACE = ("vmap: inplace", "would mutate a captured")  # how torch refuses to change what lanes share


class Stack:
    """L trainings as one: parameters, moving buffers and optimizer state along a leading lane axis.

    Args:
        prepared: the task.
        unit: the lanes' settings.
        replays: whether gradients are recorded and replayed.
        compared: at which of its uses a recording is compared with what it was made of, beside the last step.
        alone: the unit is one lane, to be trained without `vmap`: torch's fused kernels for recurrent layers and
            attention have no batching rule.
    """

    def __init__(
        self,
        prepared: Prepared,
        unit: Sequence[Setting],
        *,
        replays: bool = True,
        compared: frozenset[int] = THOROUGH,
        alone: bool = False,
    ) -> None:
        keep_freed()
        self.prepared, self.unit, self.seed = prepared, tuple(unit), unit[0].seed
        splits = [prepared.split(s.options) for s in unit]
        self.objective = prepared.objective(self.seed)  # its own tensors stay at init
        optimizer, _ = prepared.optimizer(self.objective.model, unit[0].lr, unit[0].options)
        names = {id(q): name for name, q in self.objective.named_parameters()}
        optimized = [q for group in optimizer.param_groups for q in group["params"]]
        _check_tensors(optimized, names)
        self.names = [names[id(q)] for q in optimized]
        self.shapes = [q.shape for q in optimized]
        self._channels_last = prepared.channels_last if alone else frozenset[str]()
        self._place()
        self._begin()
        self._differ(splits)
        self.data_L = self._data()
        self._compared, self._compiles = compared, False
        self._update: UpdateFunction | None = None  # compiled
        self.replay = self._new_replay() if replays else None
        self._take_together()
        if alone:
            self._take_alone()
        self._as_made, self._versions_as_made = Memory(self._remembering()), self._versions()

    def close(self) -> None:
        """Let go of what holds the stack itself, so that its memory is free at once."""
        self.replay = None
        del self._gradient, self._loss

    def compile(self, compiles: bool = True) -> None:
        """Have recordings and updates compiled from now on, as far as they can be; or no longer."""
        self._compiles = compiles
        if self.replay is not None:
            self.replay.compiles = compiles

    def again(self, unit: Sequence[Setting]) -> bool:
        """Begin anew with other settings, and keep the recordings; False where these do not serve them.

        They do where the settings differ in the learning rate, its schedule and the optimizer's options alone, and
        where training has changed nothing of the model but what is each lane's own.
        """
        if self.replay is None or not self.replay.is_whole or self._kind(unit) != self._kind(self.unit):
            return False
        if self._as_made.has_changed() or self._versions() != self._versions_as_made:
            return False
        self.replay.compared = BRIEF  # it is proven
        self.replay.begin()
        self.unit = tuple(unit)
        for name, buffer in self.buffers.items():
            buffer.copy_(self._of_lanes(self.init_buffers[name]))  # recordings hold these
        self.params_LP = self._of_lanes(self.init_IP)
        self.views = self._views()
        rule = self.rule
        self._begin()
        if not self.rule.is_alike(rule):
            self._update = None  # it has the former one's numbers
        return True

    def _kind(self, unit: Sequence[Setting]) -> list[Any]:
        """What a recording knows of a unit's settings."""
        splits = [self.prepared.split(setting.options) for setting in unit]
        return [(s.seed, split.loss, split.dropout, split.data) for s, split in zip(unit, splits, strict=True)]

    def _versions(self) -> list[int]:
        """How often each tensor was changed that lanes share."""
        return [tensor._version for tensor in self.shared.values()]

    def _begin(self) -> None:
        """What training begins with, beside parameters and buffers."""
        n_lanes, device = len(self.unit), self.prepared.device
        optimizers = [self.prepared.optimizer(self.objective.model, s.lr, s.options)[0] for s in self.unit]
        self.rule = read(optimizers, [s.lr for s in self.unit])
        self.state = self.rule.init(self.params_LP)
        self.lr_L1 = torch.tensor([[s.lr] for s in self.unit], dtype=torch.float64, device=device)
        self.dead_at_L = torch.full((n_lanes,), -1, device=device)  # the step of the first bad loss
        fp16 = self.prepared.task.precision == "fp16"
        self.scaler = LaneScaler(n_lanes, device) if fp16 else None
        self.before: list[Tensor] | None = None
        self._is_last = False  # whether this is the last step
        self.batch: Any = None

    # --------------------------------------------------------------------------------------- set-up

    def _lane_loss(self, params: dict[str, Tensor], own: dict[str, Any]) -> Tensor:
        """The loss of one lane, given its parameters and what else it has its own."""
        batch = filled(self.batch, own["leaves"]) if own["leaves"] else self.batch
        with self._own_options(own), self.prepared.autocast():
            swapped = {**params, **self.shared, **own["buffers"]}
            loss: Tensor = functional_call(self.objective, swapped, (batch,))
        return loss

    def _take_together(self) -> None:
        """Gradients and losses of all lanes by `vmap`."""

        def scaled_loss(params: dict[str, Tensor], own: dict[str, Any]) -> tuple[Tensor, Tensor]:
            loss = self._lane_loss(params, own)
            return loss * own["scale"], loss

        gradient = grad_and_value(self._lane_loss) if self.scaler is None else grad(scaled_loss, has_aux=True)
        self._gradient: Callable[..., Any] = vmap(gradient, randomness="different")
        self._loss: Callable[..., Tensor] = vmap(self._lane_loss, randomness="different")

    def _take_alone(self) -> None:
        """Gradient and loss of the only lane, as an ordinary training loop has them."""

        def gradient(params: dict[str, Tensor], own: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
            lane, own = {name: q.detach().requires_grad_() for name, q in _lane(params, 0).items()}, _lane(own, 0)
            with torch.enable_grad():
                loss = self._lane_loss(lane, own)
                scaled = loss if self.scaler is None else loss * own["scale"]
            grads = torch.autograd.grad(scaled, list(lane.values()), allow_unused=True, materialize_grads=True)
            return {name: g[None] for name, g in zip(lane, grads, strict=True)}, loss[None]

        self._gradient = gradient
        self._loss = lambda params, own: self._lane_loss(_lane(params, 0), _lane(own, 0))[None]

    def _place(self) -> None:
        """Parameters LP and own buffers at init, which is one for each seed; what is the same for all, once."""
        given = isinstance(self.prepared.task.model, nn.Module)  # then a seed changes nothing at init
        seeds = [self.seed] if given else list(dict.fromkeys(s.seed for s in self.unit))
        models = [self.objective, *(self.prepared.objective(seed) for seed in seeds[1:])]
        inits = [{name: t.detach() for name, t in [*m.named_parameters(), *m.named_buffers()]} for m in models]
        if any({n: t.shape for n, t in own.items()} != {n: t.shape for n, t in inits[0].items()} for own in inits):
            raise EngineError("the model has other tensors from seed to seed", NEXT_MOVE)
        numbers = [0 if given else seeds.index(s.seed) for s in self.unit]
        self.init_L = torch.tensor(numbers, device=self.prepared.device)
        self.init_IP = torch.stack(
            [torch.cat([self._row(name, own[name]).flatten() for name in self.names]) for own in inits]
        )
        self.params_LP = self._of_lanes(self.init_IP)
        self.views = self._views()
        self.shared: dict[str, Tensor] = {}
        self.init_buffers: dict[str, Tensor] = {}  # along I, of what lanes have each their own
        self.moving = [name for name in inits[0] if name in self.prepared.moving]
        self._all_buffers = {name for name, _ in self.objective.named_buffers()}
        for name in inits[0].keys() - set(self.names):
            if name in self.moving or not all(torch.equal(own[name], inits[0][name]) for own in inits):
                self.init_buffers[name] = torch.stack([own[name] for own in inits])
            else:
                self.shared[name] = inits[0][name]
        self.buffers: dict[str, Tensor] = {name: self._of_lanes(b) for name, b in self.init_buffers.items()}

    def _of_lanes(self, of_inits: Tensor) -> Tensor:
        """A copy for each lane of what it has at init."""
        return of_inits[self.init_L]

    def _views(self) -> dict[str, Tensor]:
        views, at = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = shape.numel()
            row = self.params_LP[:, at : at + size]
            if name in self._channels_last:
                outputs, inputs, *kernel = shape
                views[name] = row.view(-1, outputs, *kernel, inputs).movedim(-1, 2)
            else:
                views[name] = row.view(-1, *shape)
            at += size
        return views

    def _row(self, name: str, tensor: Tensor) -> Tensor:
        """A parameter, or its gradient, with its axes in the order in which `params_LP` holds them."""
        return tensor.movedim(-3, -1) if name in self._channels_last else tensor

    def _differ(self, splits: Sequence[Split]) -> None:
        """Options of the loss and rates of dropout: as floats where lanes agree, as tensors along L where not."""
        dtype, device = self.params_LP.dtype, self.params_LP.device
        defaults = self.prepared.homes.loss if any(split.loss for split in splits) else {}
        self.options: dict[str, Tensor] = {}
        same: dict[str, float] = {}
        for name in sorted({name for split in splits for name in split.loss}):
            values = [split.loss.get(name, defaults[name]) for split in splits]
            if len(set(values)) == 1:
                same[name] = values[0]
            else:
                self.options[name] = torch.tensor(values, dtype=dtype, device=device)
        self.objective.options = same
        self.rates: list[tuple[Any, Tensor]] = []  # (dropout module, its rates); "Any": they get tensors for floats
        for module in dropouts(self.objective.model) if any(s.dropout is not None for s in splits) else []:
            rates = [module.p if split.dropout is None else split.dropout for split in splits]
            if len(set(rates)) == 1:
                module.p = rates[0]
            else:
                self.rates.append((module, torch.tensor(rates, dtype=dtype, device=device)))

    def _data(self) -> Tensor | None:
        """Which stream of data each lane reads; None where there is but one."""
        keys = [self.prepared.data_key(setting) for setting in self.unit]
        distinct = list(dict.fromkeys(keys))
        self._readers = [self.unit[keys.index(key)] for key in distinct]
        if len(distinct) == 1:
            return None
        return torch.tensor([distinct.index(key) for key in keys], device=self.prepared.device)

    @contextmanager
    def _own_options(self, own: dict[str, Any]) -> Iterator[None]:
        """With a lane's options in the objective, as tensors, and what these need."""
        if not own["options"] and not own["rates"] and self.prepared.task.precision == "fp32":
            yield
            return
        same, rates = self.objective.options, [module.p for module, _ in self.rates]
        try:
            self.objective.options = {**same, **own["options"]}
            for (module, _), rate in zip(self.rates, own["rates"], strict=False):
                module.p = rate
            with LaneFunctions():
                yield
        finally:
            self.objective.options = same
            for (module, _), rate in zip(self.rates, rates, strict=True):
                module.p = rate

    # ------------------------------------------------------------------------------------- training

    def batches(self, rung: int) -> Iterator[Any]:
        """Endless batches of the rung: of one stream, or `Apart` for several."""
        if self.data_L is None:
            return self.prepared.batches(self.seed, rung, self.unit[0].options)
        streams = [self.prepared.batches(s.seed, rung, s.options, keep=False) for s in self._readers]
        return (Apart(several) for several in zip(*streams, strict=True))

    def gradients(self, batches: Sequence[Any], lanes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Gradients LP and losses L, averaged over the batches of one step; of some lanes, by their numbers."""
        grads_LP, losses_L = None, None
        for batch in batches:
            flat_LP, losses = self._pass(batch, len(batches), lanes)
            grads_LP = flat_LP if grads_LP is None else grads_LP + flat_LP
            losses_L = losses if losses_L is None else losses_L + losses
        assert grads_LP is not None and losses_L is not None
        n = len(batches)
        if self.scaler is not None:
            grads_LP = self.scaler.unscaled(grads_LP, lanes)
        elif n > 1:
            grads_LP = grads_LP / n
        return (grads_LP, losses_L) if n == 1 else (grads_LP, losses_L / n)

    def _pass(self, batch: Any, n: int, lanes: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gradients (in fp16 times scale / n) and losses of one batch of n."""
        whole = batch
        leaves: list[Tensor] = []
        if isinstance(batch, Apart):
            if (joined := batch.joined()) is None:
                return self._stream_by_stream(batch, n, lanes)
            assert self.data_L is not None
            reads = self.data_L if lanes is None else self.data_L[lanes]
            each_its_own = lanes is None and len(batch.batches) == len(self.unit)
            batch, of_streams = joined
            leaves = of_streams if each_its_own else [leaf[reads] for leaf in of_streams]
        views, own = self._of(lanes)
        fresh = [*(leaves or tensors(batch)), *([] if self.scaler is None else [self.scaler.of(lanes) / n])]

        def gradient(stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            read, scale = (fresh, []) if self.scaler is None else (fresh[:-1], fresh[-1:])
            self.batch = batch if leaves else filled(batch, read)
            given = {**own, "leaves": list(read) if leaves else [], **dict(zip(["scale"], scale, strict=False))}
            grads, losses = self._gradient(dict(zip(self.names, stable, strict=True)), given)
            flat = [self._row(name, grads[name]).reshape(len(losses), -1) for name in self.names]
            return torch.cat(flat, dim=1), losses.detach()

        stable, before = [views[name] for name in self.names], self._saved() if self._still else []
        try:
            if lanes is None and self.replay is not None:
                grads_LP, losses_L = self.replay(gradient, batch, stable, fresh, is_last=self._is_last)
            else:
                grads_LP, losses_L = gradient(stable, fresh)
        except RuntimeError as error:
            if not any(words in str(error) for words in IN_PLACE) or not self._still:
                raise
            self._restore(before)  # not the step's: batches before this one may have moved buffers
            self._spread()
            return self._pass(whole, n, lanes)
        if lanes is not None:
            for name in self.moving:
                self.buffers[name][lanes] = own["buffers"][name]
        return grads_LP, losses_L

    def _of(self, lanes: Tensor | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The parameters, and what else each lane has its own; of some lanes, copies."""
        rates = [rate for _, rate in self.rates]
        if lanes is None:
            return self.views, {"buffers": self.buffers, "options": self.options, "rates": rates, "leaves": []}
        own = {
            "buffers": {name: b[lanes] for name, b in self.buffers.items()},
            "options": {name: option[lanes] for name, option in self.options.items()},
            "rates": [rate[lanes] for rate in rates],
        }
        return {name: view[lanes] for name, view in self.views.items()}, own

    def _stream_by_stream(self, batch: Apart, n: int, lanes: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same as a pass, where the batches of the streams differ in shape."""
        assert self.data_L is not None
        lanes = torch.arange(len(self.unit), device=self.data_L.device) if lanes is None else lanes
        grads_LP = torch.empty(len(lanes), self.params_LP.shape[1], dtype=self.params_LP.dtype, device=lanes.device)
        losses_L: Tensor | None = None
        for stream, own in enumerate(batch.batches):
            at = (self.data_L[lanes] == stream).nonzero().flatten()
            if len(at):
                grads_LP[at], losses = self._pass(own, n, lanes[at])
                if losses_L is None:
                    losses_L = torch.empty(len(lanes), dtype=losses.dtype, device=lanes.device)
                losses_L[at] = losses.detach()
        assert losses_L is not None
        return grads_LP, losses_L

    @property
    def _still(self) -> set[str]:
        """The buffers that lanes share, since training does not change them."""
        return self.shared.keys() & self._all_buffers

    def _spread(self) -> None:
        """Give each lane its own of every buffer: one that stood still has begun to move."""
        for name in self._still:
            self.init_buffers[name] = torch.stack([self.shared.pop(name)] * len(self.init_IP))
            self.buffers[name] = self._of_lanes(self.init_buffers[name])
            self.moving.append(name)
            if self.before is not None:
                self.before.append(self.buffers[name].clone())
        if self.replay is not None:
            self.replay = self._new_replay()

    def step(self, batches: Sequence[Any], multiplier: float | Tensor, t: int, *, is_last: bool = False) -> Tensor:
        """One optimizer step of every lane at peak lr times `multiplier` (a number, or L1); the losses L before it.

        In the last step all recordings are compared with what they were made of; `Drifted` if these differ.
        """
        self.before, self._is_last = self._saved(), is_last
        with user_code("loss"):
            grads_LP, losses_L = self.gradients(batches)
            if self.scaler is not None:
                self._repeat_overflowed(grads_LP, losses_L, batches, t)
        task = self.prepared.task
        if task.clip_norm is not None:
            norms_L1 = torch.linalg.vector_norm(grads_LP, dim=1, keepdim=True)
            grads_LP *= (task.clip_norm / (norms_L1 + 1e-6)).clamp(max=1.0)  # as torch's clip_grad_norm_
        if task.clip_value is not None:
            grads_LP.clamp_(-task.clip_value, task.clip_value)
        lr_L1 = multiplier * self.lr_L1
        if self._compiles and self._update is None and t >= COMPILED_AT:
            self._update = compiled_update(self.rule, self.params_LP, grads_LP, self.state, lr_L1, t)
        update = self._update if self._compiles and self._update is not None and t >= COMPILED_AT else self.rule
        params_LP, self.state = update(self.params_LP, grads_LP, self.state, lr_L1, t)
        if params_LP is not self.params_LP:
            self.params_LP = params_LP
            self.views = self._views()
        return losses_L.detach()

    def _repeat_overflowed(self, grads_LP: Tensor, losses_L: Tensor, batches: Sequence[Any], t: int) -> None:
        """Take the gradient again at half the scale, in place, of the lanes in which it overflowed in fp16.

        Their noise is then another one, so that the other lanes' does not move. All lanes take part, and only these
        are used: neither the noise nor the rounding of a lane may hang on which others overflowed.
        """
        assert self.scaler is not None
        lanes = self._overflowed(grads_LP, losses_L)
        for attempt in range(1, SKIPS + 1):
            if not len(lanes):
                break
            self.scaler.halve(lanes)
            if attempt == SKIPS:
                losses_L[lanes], grads_LP[lanes], self.dead_at_L[lanes] = torch.nan, 0, t
                self._idle(lanes)  # at once: every attempt is everybody's
                break
            before = {name: self.buffers[name].clone() for name in self.moving}
            with kept():
                seed_all("again", self.seed, t, attempt)
                again_LP, again_L = self.gradients(batches)
            grads_LP[lanes], losses_L[lanes] = again_LP[lanes], again_L[lanes]
            for name, buffer in before.items():
                buffer[lanes] = self.buffers[name][lanes]
                self.buffers[name].copy_(buffer)
            lanes = lanes[torch.isin(lanes, self._overflowed(again_LP, again_L))]
        self.scaler.grow()

    def _overflowed(self, grads_LP: Tensor, losses_L: Tensor) -> Tensor:
        """The numbers of the living lanes with a finite loss and a gradient that is none."""
        alive_L = torch.isfinite(losses_L) & (self.dead_at_L < 0)
        return (alive_L & ~torch.isfinite(grads_LP).all(dim=1)).nonzero().flatten()

    def undo(self) -> None:
        """Take back what a step that raised has drawn, and the buffers it moved, for it will be taken again."""
        if self.before is not None:
            self._restore(self.before)

    def _new_replay(self) -> Replay:
        replay = Replay(self._remembering, self._moving_buffers, self._saved, self._restore, compared=self._compared)
        replay.compiles = self._compiles
        return replay

    def _remembering(self) -> list[Any]:
        """Whatever may remember something from step to step, beside tensors."""
        loss = self.objective.loss
        return [*self.objective.modules(), *(loss.modules() if isinstance(loss, nn.Module) else [loss])]

    def _moving_buffers(self) -> list[Tensor]:
        return [self.buffers[name] for name in self.moving]

    def _saved(self) -> list[Tensor]:
        """What a gradient changes: the noise's state, and copies of the moving buffers."""
        return [self._noise.get_state(), *(self.buffers[name].clone() for name in self.moving)]

    def _restore(self, saved: Sequence[Tensor]) -> None:
        self._noise.set_state(saved[0])
        for name, buffer in zip(self.moving, saved[1:], strict=True):
            self.buffers[name].copy_(buffer)

    @property
    def _noise(self) -> torch.Generator:
        """Where the lanes' noise comes from."""
        device = self.prepared.device
        if device.type != "cuda":
            return torch.default_generator
        return torch.cuda.default_generators[device.index or 0]

    # ------------------------------------------------------------------------------------- judging

    def evaluate(self, which: tuple[int, ...]) -> Tensor:
        """The judged loss of every lane, L; nan where it raises."""
        if self.prepared.task.evaluate is None:
            try:
                return self._in_parts(which)
            except TaskError as error:
                if out_of_memory(error):
                    raise
        with kept():  # one lane that diverged must not take its neighbours down
            values = [self.prepared.evaluate(self.lane(k), which, s.seed) for k, s in enumerate(self.unit)]
        values_L = torch.tensor(values, dtype=torch.float64)
        if self.prepared.task.evaluate is not None or not (bad_L := values_L.isnan()).any() or bad_L.all():
            return values_L
        with self._at_init(bad_L.to(self.dead_at_L.device)):  # for the others' numbers are those of a whole stack
            return self._in_parts(which).where(~bad_L, torch.nan)

    def _in_parts(self, which: tuple[int, ...], lanes: Tensor | None = None) -> Tensor:
        """The validation loss of all or some lanes, in halves where memory runs out."""
        try:
            return self.validate(which, lanes)
        except TaskError as error:
            n = len(self.unit) if lanes is None else len(lanes)
            if n == 1 or not out_of_memory(error):
                raise
        lanes = torch.arange(n, device=self.dead_at_L.device) if lanes is None else lanes
        return torch.cat([self._in_parts(which, half) for half in lanes.tensor_split(2)])

    def validate(self, which: tuple[int, ...], lanes: Tensor | None = None) -> Tensor:
        """The validation loss of all or some lanes, all at once."""
        losses_L: Tensor = self.prepared.weighted(self.objective, which, lambda batch: self._losses(batch, lanes))
        return losses_L

    @contextmanager
    def _at_init(self, lanes_L: Tensor) -> Iterator[None]:
        """With these lanes' parameters and buffers as they were at init."""
        params_LP, buffers, inits = self.params_LP, self.buffers, self.init_L[lanes_L]
        try:
            self.params_LP = params_LP.clone()
            self.params_LP[lanes_L] = self.init_IP[inits]
            self.buffers = {name: buffer.clone() for name, buffer in buffers.items()}
            for name, buffer in self.buffers.items():
                buffer[lanes_L] = self.init_buffers[name][inits]
            self.views = self._views()
            yield
        finally:
            self.params_LP, self.buffers = params_LP, buffers
            self.views = self._views()

    def _losses(self, batch: Any, lanes: Tensor | None) -> Tensor:
        self.batch = batch
        views, own = self._of(lanes)
        own |= {"options": {}, "rates": [], "leaves": []}  # judged by one measure
        if self.scaler is not None:
            own["scale"] = self.scaler.of(lanes)
        try:
            losses_L = self._loss(views, own)
        except RuntimeError as error:
            if "atching rule not implemented" not in str(error):
                raise
            # torch's fused recurrent layers have none: each lane then takes them as they are
            self._loss = lambda params, own: torch.stack(
                [self._lane_loss(_lane(params, k), _lane(own, k)) for k in range(len(params[self.names[0]]))]
            )
            losses_L = self._loss(views, own)
        return losses_L.double().cpu()

    def lane(self, k: int) -> Objective:
        """One lane's model as an ordinary module, sharing nothing with the stack."""
        setting = self.unit[k]
        objective = self.prepared.objective(setting.seed, setting.options)
        own = {name: t[k] for name, t in {**self.views, **self.buffers}.items()} | self.shared
        with torch.no_grad():
            for name, tensor in [*objective.named_parameters(), *objective.named_buffers()]:
                tensor.copy_(own[name])
        return objective

    # -------------------------------------------------------------------------------------- burying

    def bury(self, losses_TL: Tensor, first: int) -> bool:
        """Note the first non-finite loss, from step `first` on, of each living lane; whether all are dead."""
        if not len(losses_TL):
            return False
        bad_TL = ~torch.isfinite(losses_TL)
        new_L = bad_TL.any(0) & (self.dead_at_L < 0)
        if new_L.any():
            self.dead_at_L[new_L] = first + bad_TL.int().argmax(0)[new_L]
            self._idle(new_L)
        return bool((self.dead_at_L >= 0).all())

    def bury_raising(self, batches: Sequence[Any], t: int) -> list[Any]:
        """Bury the lanes on which the loss of step t raises, each by itself, though it does not at init.

        Returns:
            The batches to take the step with again: NaN that dead lanes alone would see is zero in them.
        """
        with kept():
            raising = [
                k
                for k in range(len(self.unit))
                if any(self.prepared.raises(self.lane(k), self._batch_of(b, k)) for b in batches)
            ]
        if all(self.prepared.accepts(self.unit[k], self._batch_of(b, k)) for k in raising for b in batches):
            raising_L = torch.zeros_like(self.dead_at_L, dtype=torch.bool)
            raising_L[raising] = True
            self.dead_at_L[raising_L & (self.dead_at_L < 0)] = t
            self._idle(raising_L)
        return [self._for_the_living(batch) for batch in batches]

    def _for_the_living(self, batch: Any) -> Any:
        """A batch in which streams that dead lanes alone read are finite."""
        alive_L = self.dead_at_L < 0
        if not isinstance(batch, Apart):
            return batch if alive_L.any() else finite(batch)
        assert self.data_L is not None
        read = set(self.data_L[alive_L].tolist())
        return Apart([own if i in read else finite(own) for i, own in enumerate(batch.batches)])

    def _batch_of(self, batch: Any, k: int) -> Any:
        if not isinstance(batch, Apart):
            return batch
        assert self.data_L is not None
        return batch.batches[int(self.data_L[k])]

    def _idle(self, lanes_L: Tensor) -> None:
        """Set lanes back to init, where the loss is known to be good (at zeros it need not be), and keep them there."""
        self.lr_L1[lanes_L] = 0
        inits = self.init_L[lanes_L]
        self.params_LP[lanes_L] = self.init_IP[inits]
        for tensor in self.state.values():
            tensor[lanes_L] = 0
        for name, at_init in self.init_buffers.items():
            self.buffers[name][lanes_L] = at_init[inits]


def _lane(own: Any, k: int) -> Any:
    """Lane k's part of what lanes have along their axis."""
    if isinstance(own, Tensor):
        return own[k]
    if isinstance(own, dict):
        return {name: _lane(value, k) for name, value in own.items()}
    return [_lane(value, k) for value in own]


@contextmanager
def quiet() -> Iterator[None]:
    """Without torch's warning that an operation is batched by a loop: slower, not wrong, and `auto` measures."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield


def stackable(prepared: Prepared, settings: Sequence[Setting]) -> dict[Hashable, list[Setting]]:
    """The settings in order, by what must be the same in all lanes of a stack.

    That is: switches of the optimizer, and whether an argument of the loss is given that has no number as default.
    """
    found: dict[Hashable, list[Setting]] = {}
    for setting in sorted(settings):
        split = prepared.split(setting.options)
        switches = tuple(sorted((k, v) for k, v in split.optimizer.items() if isinstance(v, bool)))
        bare = tuple(sorted(name for name in split.loss if not isinstance(prepared.homes.loss[name], int | float)))
        found.setdefault((switches, bare), []).append(setting)
    return found


def _check_tensors(optimized: Sequence[Tensor], names: dict[int, str]) -> None:
    for q in optimized:
        if id(q) not in names:
            raise EngineError("an optimized tensor is not a parameter of the model", NEXT_MOVE)
        if q.is_sparse or q.dtype != optimized[0].dtype or not q.is_floating_point():
            raise EngineError(f"parameter {names[id(q)]} is {q.dtype}, and the others {optimized[0].dtype}", NEXT_MOVE)
