"""A task made ready to be trained again and again: what the loop and the lanes share."""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, SupportsFloat

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader

from ..errors import NoAnswer, TaskError
from ..schedules import Bound, Schedule
from ..task import Task
from .apart import finite
from .base import Facts, Options, Setting
from .blame import out_of_memory, user_code
from .data import Stream, map_tensors, nonfinite, rebuild, rows, tensors
from .judging import Judging, plan_judging
from .options import Homes, Split, dropouts, homes_of
from .randomness import derive, kept, seed_all

__all__ = ["Built", "Objective", "Prepared", "judged"]


class Objective(nn.Module):
    """Model and loss as one module: `functional_call` swaps tensors under `model.head(x)` and `.parameters()` too.

    Args:
        model: the model.
        loss: the task's loss.
        options: what a setting passes to the loss by name, in training alone: so that all are judged by one measure.
    """

    def __init__(self, model: nn.Module, loss: Any, options: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__()
        self.model = model
        self._loss = [loss]  # in a list: a loss that is a module must not become a submodule
        self.options = options

    @property
    def loss(self) -> Any:
        """The task's loss."""
        return self._loss[0]

    def forward(self, batch: Any) -> Tensor:
        """The loss of one batch, of which it gets a copy: a loss may pop keys, or work in place."""
        options = self.options if self.training else {}
        loss = self._loss[0](self.model, map_tensors(batch, torch.clone), **options)
        if not isinstance(loss, Tensor) or (loss.dim() and loss.numel() != 1):
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{type(loss).__name__}"
            raise TaskError(
                f"the loss returned {got}, not a scalar tensor.", "Return one number a batch, as loss.mean()."
            )
        return loss.reshape(())


@dataclass(frozen=True)
class Built:
    """One training's own objective and optimizer.

    Args:
        setting: what the model and its optimizer were built from.
        objective: its model and loss.
        optimizer: over the model's parameters.
        scales: the optimizer's groups' ratios to the peak lr.
        scaler: of gradients, in fp16; without effect otherwise.
    """

    setting: Setting
    objective: Objective
    optimizer: torch.optim.Optimizer
    scales: tuple[float, ...]
    scaler: torch.amp.GradScaler

    @property
    def optimized(self) -> list[Tensor]:
        """The tensors that the optimizer updates, in order."""
        return [q for group in self.optimizer.param_groups for q in group["params"]]


class Prepared:
    """A checked task on a device.

    Args:
        task: the user's.
        device: where to train.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        self.task, self.device = task, device
        self.horizon = task.steps
        self.schedule: Bound = task.bound_schedule
        self._differentiates = False  # whether the judged loss takes gradients itself
        self._alike: dict[int, bool] = {}  # by seed
        self._streams: dict[tuple[int, int, Options], Stream] = {}
        self._init: dict[tuple[int, tuple[int, ...] | Options], float] = {}  # by seed, and batches or options

    # ------------------------------------------------------------------------------------- pieces

    @cached_property
    def homes(self) -> Homes:
        """The names of options that the task takes."""
        with kept():
            optimizer, _ = self.optimizer(self.model(0), 1e-3)
        return homes_of(optimizer, self.task.loss, self.task.train)

    def split(self, options: Options) -> Split:
        """A setting's options by what they are for."""
        return self.homes.split(options) if options else Split({}, {}, (), None, None)

    def data_key(self, setting: Setting) -> Hashable:
        """What tells a setting's training batches from another's: a list's are the same for all."""
        if isinstance(self.task.train, Sequence):
            return None
        return setting.seed, self.split(setting.options).data

    def data_options(self, written: Mapping[str, Any]) -> Options:
        """Of a curve's options, those that the training data takes."""
        named = self.homes.data if written else ()
        return tuple((name, _hashable(written[name])) for name in sorted(written) if name in named)

    def bound(self, schedule: Schedule | None) -> Bound:
        """A setting's schedule laid out on the horizon, or the task's own."""
        return self.schedule if schedule is None else schedule.bind(self.horizon, self.task.steps_per_epoch)

    def multipliers(self, options: Options, steps: int) -> list[float]:
        """The multipliers of the peak lr in a run of `steps` steps."""
        multipliers: list[float] = self.bound(self.split(options).schedule).rescale(steps).multipliers().tolist()
        return multipliers

    def build(self, seed: int, lr: float, options: Options = ()) -> Built:
        """A new model as it is at init under `seed`, and its optimizer."""
        objective = self.objective(seed, options)
        optimizer, scales = self.optimizer(objective.model, lr, options)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.task.precision == "fp16")
        return Built(Setting(seed, lr, options), objective, optimizer, scales, scaler)

    def objective(self, seed: int, options: Options = ()) -> Objective:
        """A new model as it is at init under `seed`, and the loss."""
        split, model = self.split(options), self.model(seed)
        if split.dropout is not None:
            for module in dropouts(model):
                module.p = split.dropout
        return Objective(model, self.task.loss, split.loss)

    def model(self, seed: int) -> nn.Module:
        """The model at init: a copy of the user's, or made by the user's function under `seed`."""
        source = self.task.model
        seed_all("model", seed)
        if isinstance(source, nn.Module):
            try:
                model = copy.deepcopy(source)
            except Exception as error:
                raise TaskError(
                    f"the model cannot be copied: {type(error).__name__}: {error}",
                    "Give a function that makes it: model=lambda: Net(...)",
                ) from error
        else:
            with user_code("model"):
                model = source()
            if not isinstance(model, nn.Module):
                raise TaskError(f"model() returned a {type(model).__name__}.", "Return an nn.Module.")
        return model.to(self.device).train()

    def optimizer(
        self, model: nn.Module, lr: float, options: Options = ()
    ) -> tuple[torch.optim.Optimizer, tuple[float, ...]]:
        """The user's optimizer over the model at peak `lr`, and its groups' ratios to that lr."""
        with user_code("params"):
            chosen: list[Any] = list((self.task.params or _all_trainable)(model))
        grouped = bool(chosen) and isinstance(chosen[0], Mapping)
        asked = self.task.group
        if asked is not None and not (grouped and asked in [given.get("name") for given in chosen]):
            raise TaskError(
                f"no param group has the name {asked!r}.",
                f'Name it in params=...: {{"name": {asked!r}, "params": [...]}}; the others keep the "lr" they have.',
            )
        groups = [_group(i, given, lr, asked) for i, given in enumerate(chosen)] if grouped else []
        if not any(True for group in groups for _ in group["params"]) and (groups or not chosen):
            raise TaskError(
                "there is nothing to optimize: no parameter requires grad.", "Check params and requires_grad."
            )
        with user_code("optimizer"):
            optimizer = self.task.optimizer(groups or chosen, lr)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TaskError(
                f"optimizer(params, lr) returned a {type(optimizer).__name__}.", "Return a torch optimizer."
            )
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise TaskError(
                f"{type(optimizer).__name__} needs a closure, and etascope steps without one.",
                "Use an optimizer whose step() takes none, such as torch.optim.AdamW.",
            )
        for i, group in enumerate(optimizer.param_groups):
            if "lr_scale" in group and not math.isclose(float(group["lr"]), lr * float(group["lr_scale"])):
                raise TaskError(
                    f"optimizer(params, lr) made param group {i} with lr_scale={group['lr_scale']!r}, but not that lr.",
                    f'Set "lr": {group["lr_scale"]!r} * lr there, or make the groups in params=...',
                )
        for group in optimizer.param_groups:
            group.update(self.split(options).optimizer)
        train_mode(optimizer)
        return optimizer, tuple(float(group["lr"]) / lr for group in optimizer.param_groups)

    def batches(self, seed: int, rung: int, options: Options = (), *, keep: bool = True) -> Iterator[Any]:
        """Endless training batches of one seed in one rung, on the device; of the streams, only the latest is kept.

        Args:
            seed: a setting's.
            rung: the rung's number.
            options: a setting's, of which those matter that the task's `train` function takes.
            keep: hold the batches in memory for the next training that sees the same.
        """
        key = seed, rung, self.split(options).data
        if not keep:
            stream = Stream(self.task.train, derive(seed, rung), self.device, key[2], keep=False)
        elif key in self._streams:
            stream = self._streams[key]
        else:
            stream = Stream(self.task.train, derive(seed, rung), self.device, key[2])
            self._streams = {key: stream}
        batches = stream.batches()
        while True:
            with user_code("training data"):
                batch = next(batches)
            yield batch

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision, where the task asks for it."""
        if self.task.precision == "fp32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.task.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def differs_in_tensors_alone(self, seed: int) -> bool:
        """Whether the model of this seed is that of seed 0 with other parameters and buffers, as a loss shows."""
        if seed not in self._alike:
            with kept():
                self._alike[seed] = isinstance(self.task.model, nn.Module) or self._is_alike(seed)
        return self._alike[seed]

    def _is_alike(self, seed: int) -> bool:
        other, own = self.objective(0), self.objective(seed)
        at_init = {name: t.detach().clone() for name, t in [*own.named_parameters(), *own.named_buffers()]}
        batch, losses = next(self.batches(0, -1)), []
        for objective in (own, other):
            seed_all("check", seed)
            try:
                losses.append(functional_call(objective, at_init, (batch,), strict=True).detach())
            except (RuntimeError, TaskError):  # other tensors
                return False
        return torch.equal(*losses)

    @cached_property
    def moving(self) -> frozenset[str]:
        """The buffers that training changes, as two batches show."""
        with kept():
            objective = self.objective(0)
            before = {name: b.detach().clone() for name, b in objective.named_buffers()}
            if not before:
                return frozenset()
            seed_all("check", 0)
            batches = self.batches(0, -1)
            for _ in range(2):
                with user_code("loss"), self.autocast():
                    objective(finite(next(batches)))  # what NaN does is for the training to show
        return frozenset(name for name, b in objective.named_buffers() if not torch.equal(b, before[name]))

    @cached_property
    def channels_last(self) -> frozenset[str]:
        """The convolutions' weights that one model on a CPU has with the channels last, which is faster there.

        None, where that raises: it goes on into what they give, which not every `view` can take.
        """
        with kept():
            built = self.build(0, 1e-3)
            optimized = {id(q) for q in built.optimized}  # no others: they may be the user's own
            of_modules = built.objective.named_modules() if self.device.type == "cpu" else ()
            weights = {f"{name}.weight": m.weight for name, m in of_modules if type(m) is nn.Conv2d}
            weights = {name: weight for name, weight in weights.items() if id(weight) in optimized}
            for weight in weights.values():
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
            if not weights:
                return frozenset()
            seed_all("check", 0)
            try:
                with self.autocast():
                    loss = built.objective(finite(next(self.batches(0, -1))))
                torch.autograd.grad(loss, built.optimized, allow_unused=True)
                with evaluating(built.objective), self.autocast():
                    for batch in [*self.validation[:1], *self.validation[1:][-1:]]:
                        built.objective(batch)
            except Exception:
                return frozenset()
        return frozenset(weights)

    # ------------------------------------------------------------------------------------ judging

    @cached_property
    def validation(self) -> list[Any]:
        """The validation batches, on the device."""
        val = self.task.val
        if val is None:
            return []
        with kept(), user_code("validation data"):
            seed_all("validation")
            source = rebuild(val, derive("validation")) if isinstance(val, DataLoader) else val
            batches = [map_tensors(b, lambda t: t.to(self.device)) for b in source]
        if not batches:
            raise TaskError(
                "val is empty: it has no batches.",
                "Check how the validation data is loaded, or give val=None.",
            )
        return batches

    @cached_property
    def batch_rows(self) -> int:
        """Examples in one training batch, as the first one has."""
        return rows(next(self.batches(0, -1)))

    def judging(self, steps: int) -> Judging | None:
        """The evaluations of a run of `steps` steps; None where the training loss is judged."""
        if self.task.evaluate is not None:  # its cost is unknown, so few
            ends = plan_judging(steps, self.schedule.decays, 4, [1])
            return Judging(ends.on_the_way, ends.final[-1:], (), ())
        if not self.validation:
            return None
        examples = steps * self.task.accumulate * self.batch_rows
        return plan_judging(steps, self.schedule.decays, examples, [rows(b) for b in self.validation])

    def evaluate(self, objective: Objective, which: tuple[int, ...], seed: int) -> float:
        """The judged loss of a model now; nan where that raises though it did not at init under `seed`."""
        try:
            return self._evaluate(objective, which)
        except TaskError as error:
            if out_of_memory(error):
                raise
            with kept():
                self._init_evaluation(seed, which)  # raises too, unless it is the parameters that diverged
            return math.nan

    def _evaluate(self, objective: Objective, which: tuple[int, ...]) -> float:
        if self.task.evaluate is None:
            return float(self.weighted(objective, which, lambda batch: objective(batch).item()))
        with evaluating(objective), user_code("evaluate"):
            value = float(self._without_graph(self.task.evaluate, objective.model))
        return -value if self.task.goal == "max" else value

    def weighted(self, objective: Objective, which: tuple[int, ...], losses_of: Callable[[Any], Any]) -> Any:
        """The mean of `losses_of(batch)` over these validation batches, weighted by their examples."""
        total, examples = 0.0, 0
        with evaluating(objective), user_code("loss, on validation data,"), self.autocast():
            for batch in (self.validation[i] for i in which):
                total += rows(batch) * self._without_graph(losses_of, batch)
                examples += rows(batch)
        return total / examples

    def _without_graph(self, compute: Callable[[Any], Any], of: Any) -> Any:
        """`compute(of)` without gradients, unless it takes some itself, as a gradient penalty does."""
        if not self._differentiates:
            try:
                return compute(of)
            except RuntimeError as error:
                if "does not require grad" not in str(error):
                    raise
                self._differentiates = True
        with torch.enable_grad():
            return compute(of)

    def init_loss(self, seed: int, judging: Judging | None, options: Options = ()) -> float:
        """The judged loss before the first step, on what the final loss is taken on."""
        if judging is None:
            return self._init_training(seed, options)
        return self._init_evaluation(seed, judging.final_batches)

    def _init_evaluation(self, seed: int, which: tuple[int, ...]) -> float:
        if (seed, which) not in self._init:
            self._init[seed, which] = self._evaluate(self.objective(seed), which)
        return self._init[seed, which]

    def _init_training(self, seed: int, options: Options) -> float:
        split = self.split(options)
        options = tuple(option for option in options if option[0] in {"dropout", *split.loss, *dict(split.data)})
        if (seed, options) not in self._init:
            objective, batches = self.objective(seed, options), self.batches(seed, -1, options)
            losses = [self._init_of(objective, next(batches)) for _ in range(min(8, self.horizon))]
            self._init[seed, options] = math.fsum(losses) / len(losses)
        return self._init[seed, options]

    def _init_of(self, objective: Objective, batch: Any) -> float:
        """The loss of a training batch at init; nan where NaN in the batch makes it raise."""
        try:
            with user_code("loss"), self.autocast():  # not without gradients: a loss may take some itself
                return float(objective(batch).item())
        except TaskError as error:
            if out_of_memory(error) or nonfinite(batch) is None or self.raises(objective, finite(batch)):
                raise
            return math.nan

    def raises(self, objective: Objective, batch: Any) -> bool:
        """Whether the loss of this batch, or its gradient, raises; a lack of memory is handed on."""
        try:
            with kept(), user_code("loss"):
                with self.autocast():
                    loss = objective(batch)
                loss.backward()
        except TaskError as error:
            if out_of_memory(error):
                raise
            return True
        return False

    def accepts(self, setting: Setting, batch: Any) -> bool:
        """Whether the loss takes this batch at init, but for NaN in it: if so, what it raised later is a divergence."""
        with kept():
            objective = self.objective(setting.seed, setting.options)
            return not (self.raises(objective, batch) and self.raises(objective, finite(batch)))

    # ------------------------------------------------------------------------------------- checks

    def check(self, seed: int) -> None:
        """Try every piece once, without a step, so that a task's faults show before anything is trained.

        Raises:
            TaskError: a piece raises, returns the wrong thing, or the data holds NaN.
            NoAnswer: the loss is not finite at the start though the data is.
        """
        _ = self.schedule.decays  # asks a function for every step
        self._check_copy()
        built, again = self.build(seed, 1e-3), self.build(seed, 2e-3)
        _check_apart(built, again)
        batch = next(self.batches(0, -1))
        if not tensors(batch):
            raise TaskError(
                f"a training batch holds no tensor: it is a {type(batch).__name__}.",
                "Check the dataset and collate_fn.",
            )
        with _spared(self.task.model):
            seed_all("check", seed)
            self._check_gradient(built, batch)
        for i, val_batch in enumerate(self.validation):
            if (fault := nonfinite(val_batch)) is not None:
                raise TaskError(f"validation batch {i} is not finite: {fault}.", "Clean the data.")
        if not math.isfinite(value := self.init_loss(seed, self.judging(self.horizon))):
            if (fault := self.find_nan(seed, -1, min(8, self.horizon))) is not None:
                raise TaskError(f"the data is not finite: {fault}.", "Clean the data.")
            raise NoAnswer(f"the judged loss is {value} at the start, before any step.", "Check the loss and val.")

    def _check_copy(self) -> None:
        """Refuse a module of which a copy would not be the same."""
        model = self.task.model
        named = model.named_parameters() if isinstance(model, nn.Module) else ()
        if hooked := [name for name, q in named if has_hooks(q)]:
            raise TaskError(
                f"the model's parameter {hooked[0]!r} has a gradient hook, which copying the model would drop.",
                "Give a function that makes the model and registers the hook: model=make_model",
            )

    def _check_gradient(self, built: Built, batch: Any) -> None:
        with user_code("loss"), self.autocast():
            loss = built.objective(batch)
        if not torch.isfinite(loss):
            if (fault := nonfinite(batch)) is not None:
                raise TaskError(f"the first training batch is not finite: {fault}.", "Clean the data.")
            raise NoAnswer(
                f"the loss is {loss.item()} at the start, before any step, though the first batch is finite.",
                "Check the model's initialisation and the loss (a log of 0, a division by 0).",
            )
        if not loss.requires_grad:
            raise TaskError(
                "the loss does not depend on the model's parameters.",
                "Compute it with the `model` argument of loss(model, batch), not with a model from outside, "
                "and without torch.no_grad() or .item().",
            )
        with user_code("loss, in its gradient,"):
            loss.backward()
        if all(q.grad is None for q in built.optimized):
            raise TaskError(
                "no optimized parameter has a gradient.",
                "Compute the loss with the `model` argument of loss(model, batch), not with a model from outside.",
            )

    def find_nan(self, seed: int, rung: int, steps: int, options: Options = ()) -> str | None:
        """The first training batch that is not finite, in words; None if all are."""
        batches = self.batches(seed, rung, options)
        for i in range(steps * self.task.accumulate):
            if (fault := nonfinite(next(batches))) is not None:
                named = "".join(f", {name}={value}" for name, value in options)
                return f"training batch {i} (counted from 0) of seed {seed}{named}: {fault}"
        return None

    # -------------------------------------------------------------------------------------- facts

    def facts(self, seed: int) -> Facts:
        """What the record should say of the task."""
        task, judging = self.task, self.judging(self.horizon)
        optimizer, scales = self.optimizer(self.model(seed), 1e-3)
        steps = np.unique(np.linspace(0, self.horizon - 1, min(self.horizon, 200)).round().astype(int))
        data = self.schedule.schedule.to_json()
        name = type(optimizer).__name__
        options = _options(task, optimizer)
        inside = ", ".join(["params" if task.params else "model.parameters()", "lr={lr}", *options])
        module = "torch.optim" if type(optimizer).__module__.startswith("torch.") else type(optimizer).__module__
        notes = (
            ["state that a dataset keeps is the user's, and not reset between runs"] if _keeps_state(task.train) else []
        )
        if task.group is not None:
            notes.append(f"the lr is that of the param group {task.group!r}; the others keep their own")
        return Facts(
            init_loss=self.init_loss(seed, judging),
            goal=task.goal,
            optimizer=f"{name}({', '.join(options)})",
            groups=len(scales),
            schedule={"foreign": data["name"]} if data.get("kind") == "foreign" else data,
            multipliers=tuple((int(t), float(m)) for t, m in zip(steps, self.schedule(steps), strict=True)),
            decays=self.schedule.decays,
            judged=self._judged(judging),
            validation=self._validated(judging),
            paste=f"optimizer = {module}.{name}({inside})",
            notes=tuple(notes),
            default_lr=_default_lr(type(optimizer)),
        )

    def _judged(self, judging: Judging | None) -> str:
        what = "evaluate(model)" if self.task.evaluate is not None else "the validation loss"
        if judging is None:
            return "mean training loss of the last tenth of the steps (there is no validation data)"
        if len(judging.final) == 1:
            return f"{what} after the last step"
        points = len(judging.final)
        return f"mean of {what} at {points} points in the last tenth of the steps (the schedule does not decay)"

    def _validated(self, judging: Judging | None) -> str:
        if judging is None or self.task.evaluate is not None:
            return "none" if judging is None else "as evaluate(model) does"
        batch_rows = [rows(b) for b in self.validation]
        final = sum(batch_rows[i] for i in judging.final_batches)
        return (
            f"{final} of {sum(batch_rows)} examples at the full horizon; a run evaluates at most as many examples as "
            "it trains on (a third of its cost), in whole batches evenly spaced, at least one"
        )


@contextlib.contextmanager
def judged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """With the weights that the optimizer wants judged: Schedule-Free's differ from those that it trains."""
    if (judge := getattr(optimizer, "eval", None)) is not None:
        judge()
    try:
        yield
    finally:
        train_mode(optimizer)


def train_mode(optimizer: torch.optim.Optimizer) -> None:
    """Have the optimizer train, if it knows other modes."""
    if (train := getattr(optimizer, "train", None)) is not None:
        train()


@contextlib.contextmanager
def evaluating(objective: Objective) -> Iterator[None]:
    """In eval mode, without gradients, and without drawing from the training's noise."""
    objective.eval()
    try:
        with kept(), torch.no_grad():
            yield
    finally:
        objective.train()


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, list) else value


def _group(i: int, given: Mapping[str, Any], lr: float, asked: str | None) -> dict[str, Any]:
    """The user's i-th param group, as a torch optimizer takes it; `lr` is the peak, of the group `asked` for if any."""
    keeps_its_own = asked is not None and given.get("name") != asked
    if keeps_its_own and ("lr" in given) == ("lr_scale" in given):
        raise TaskError(
            f"param group {i} is not {asked!r}, whose lr is asked for, and has no lr of its own.",
            'Give it one, "lr": 1e-4; or "lr_scale", if it is to move with the other.',
        )
    if "lr" in given and not keeps_its_own:
        raise TaskError(
            f"param group {i} has an absolute lr ({given['lr']!r}).",
            f'Give its ratio to the peak lr: "lr_scale": {given["lr"]!r} / peak.',
        )
    if "params" not in given:
        raise TaskError(f'param group {i} has no "params".', 'Give {"params": [...], ...}, with a list of tensors.')
    scale, params = given.get("lr_scale", 1.0), given["params"]
    if isinstance(scale, bool | str) or not isinstance(scale, SupportsFloat) or not 0 <= float(scale) < math.inf:
        raise TaskError(f"param group {i} has lr_scale={scale!r}.", "Give the group's lr / peak lr, from 0 on.")
    own = given.get("lr", lr * float(scale))
    if isinstance(own, bool | str) or not isinstance(own, SupportsFloat) or not 0 <= float(own) < math.inf:
        raise TaskError(f"param group {i} has lr={own!r}.", "Give a number, from 0 on.")
    return dict(given) | {"params": [params] if isinstance(params, Tensor) else list(params), "lr": float(own)}


def _check_apart(built: Built, again: Built) -> None:
    """Refuse two trainings, at different lrs, that share a parameter or have the same lr."""
    if not {id(q) for q in built.optimized}.isdisjoint(id(q) for q in again.optimized):
        raise TaskError(
            "model() returns the same parameters at every call, so runs would go on from each other.",
            "Make a new model in it, or give the module itself: model=net (it is copied).",
        )
    lrs, others = ([float(group["lr"]) for group in b.optimizer.param_groups] for b in (built, again))
    if lrs == others:
        raise TaskError("optimizer(params, lr) does not use lr.", "Pass it on: SGD(params, lr=lr).")


def has_hooks(parameter: Tensor) -> bool:
    """Whether something is called with the parameter's gradient."""
    return bool(parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None))


def _all_trainable(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


@contextlib.contextmanager
def _spared(model: Any) -> Iterator[None]:
    """Give the user's own module its gradients and buffers back, and refuse a loss that reached into it."""
    module = model if isinstance(model, nn.Module) else nn.Module()
    grads = [(q, q.grad) for q in module.parameters()]
    buffers = [(b, b.detach().clone()) for b in module.buffers()]
    for q, _ in grads:
        q.grad = None
    try:
        yield
    finally:
        reached = any(q.grad is not None for q, _ in grads)
        for q, grad in grads:
            q.grad = grad
        for b, old in buffers:
            if not torch.equal(b, old):
                b.detach().copy_(old)
    if reached:
        raise TaskError(
            "the loss uses the task's own model from outside, not its copy that is trained.",
            "Use the `model` argument of loss(model, batch) throughout, for penalties over parameters too.",
        )


def _default_lr(optimizer: type[torch.optim.Optimizer]) -> float | None:
    """The lr that an optimizer takes without being told; None where it must be told."""
    given = inspect.signature(optimizer).parameters.get("lr")
    return float(given.default) if given is not None and isinstance(given.default, int | float) else None


def _options(task: Task, optimizer: torch.optim.Optimizer) -> list[str]:
    """The options that the user set, as they were written where that can be seen."""
    if isinstance(task.optimizer, partial):
        return [f"{k}={v!r}" for k, v in task.optimizer.keywords.items()]
    if isinstance(task.optimizer, type):
        return []
    known = inspect.signature(type(optimizer)).parameters
    return [
        f"{k}={v!r}"
        for k, v in optimizer.defaults.items()
        if k in known and k != "lr" and v != known[k].default and isinstance(v, bool | int | float | tuple)
    ]


def _keeps_state(train: Any) -> bool:
    return isinstance(train, DataLoader) and not isinstance(train.dataset, torch.utils.data.TensorDataset)
