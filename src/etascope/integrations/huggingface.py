"""Hugging Face's `Trainer` as a training function: each run is a fresh trainer like the given one, which stays.

`WatchCallback` is `eta.watch` in a trainer.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import transformers
from accelerate.state import AcceleratorState, GradientState
from torch import nn

from ..engines import About, user_code
from ..errors import TaskError
from ..records import Point
from .running import PROBE, base_lrs, decays, hushed, in_words, must_follow, play, tail
from .watch_huggingface import WatchCallback

__all__ = ["TrainerRun", "WatchCallback", "training_function"]

LOOKED_AT = 1000  # steps of the run whose schedule is drawn, at most: it is rescaled to every run anyway
LOGGED = 50  # points of a training curve
PACKAGES = ("transformers", "accelerate")
OWN_FUNCTION = "or write the training as a function run(lr, steps, seed)."

# Off in a short run: what writes, reports, stops early or looks at the validation data on the way.
OFF = {
    "report_to": [],
    "disable_tqdm": True,
    "push_to_hub": False,
    "load_best_model_at_end": False,
    "eval_on_start": False,
    "enable_jit_checkpoint": False,
    "batch_eval_metrics": False,  # it needs compute_metrics
    "logging_first_step": False,
    "logging_nan_inf_filter": False,  # a loss of nan has to be seen
    "log_level": "error",
}
# What a subclass or its user may have set after `Trainer.__init__`, which each fresh trainer goes through again.
SETTINGS = ("label_names", "can_return_loss", "model_accepts_loss_kwargs", "label_smoother", "place_model_on_device")
SHARED = {"train_dataset", "eval_dataset", "processing_class", "model_init", "compute_loss_func"}
IN_STEPS = ("num_decay_steps", "num_stable_steps", "timescale")  # of lr_scheduler_kwargs


def training_function(trainer: transformers.Trainer) -> TrainerRun:
    """`run(lr, steps, seed)` for a trainer.

    Raises:
        TaskError: it cannot be trained again from its settings alone; says what to do.
    """
    return TrainerRun(trainer)


class TrainerRun:
    """One complete training by a fresh trainer of the same class; returns its evaluation loss.

    The weights are those of `model_init`, seeded, or a copy of the trainer's model as it stands. Arguments are a copy
    with the lr, the steps and the seed; what they say in steps (warmup) keeps its share of the run. Nothing is written,
    reported or evaluated on the way, and callbacks are left out. `compute_metrics` is: the loss is judged.

    Args:
        trainer: it stays as it is.
    """

    def __init__(self, trainer: transformers.Trainer) -> None:
        _refuse(trainer)
        self.trainer = trainer
        self.__name__ = type(trainer.model).__name__
        with user_code("trainer"), _aside() as folder:
            self.horizon = self._horizon(folder)
            self.about = self._look(folder)

    def __call__(self, lr: float, steps: int, seed: int) -> Generator[Point, None, float]:
        """Train completely; yields the training curve. No steps: the loss at init."""
        with _aside() as folder:
            fresh = self._fresh(lr, steps, seed, folder)
            points: list[Point] = []
            if steps:
                transformers.set_seed(seed)
                fresh.train()
                must_follow(lr, base_lrs([fresh.optimizer]), self._at_probe, NO_EFFECT)
                points = [(int(row["step"]), float(row["loss"])) for row in fresh.state.log_history if "loss" in row]
            loss = tail(points, steps) if self.trainer.eval_dataset is None else self._judge(fresh.evaluate())
        yield from ((step - 1, value) for step, value in points)  # steps count from 0
        return loss

    def _judge(self, results: dict[str, Any]) -> float:
        sets = self.trainer.eval_dataset
        names = [f"eval_{name}_loss" for name in sets] if isinstance(sets, dict) else ["eval_loss"]
        if missing := [name for name in names if name not in results]:
            raise TaskError(
                f"trainer.evaluate() gives no {missing[0]}, but {', '.join(results)}.",
                "Let the model return a loss on eval_dataset: its rows need labels (label_names=), "
                "or the Trainer compute_loss_func.",
            )
        return math.fsum(float(results[name]) for name in names) / len(names)

    # -------------------------------------------------------------------------------------- a fresh trainer

    def _fresh(self, lr: float, steps: int, seed: int, folder: str) -> Any:
        """A trainer like the given one, as its class's author would have made it, before it trains.

        A subclass's own `__init__` is unknown: so its attributes are copied from the given trainer, and `Trainer`'s,
        which hold what a training changes, are made anew.
        """
        given = self.trainer
        fresh = object.__new__(type(given))
        vars(fresh).update({k: v for k, v in vars(given).items() if k != "_eval_dataloaders"})
        args = self._args(lr, steps, seed, folder)
        passed = {
            "model": None if given.model_init is not None else _copied(given.model),
            "args": args,
            "optimizer_cls_and_kwargs": _optimizer(given, lr),
            "compute_loss_func": getattr(given, "compute_loss_func", None),
            **{k: getattr(given, k) for k in ("data_collator", "train_dataset", "eval_dataset", "model_init")},
            "processing_class": given.processing_class,
        }
        known = inspect.signature(transformers.Trainer.__init__).parameters
        transformers.Trainer.__init__(fresh, **{k: v for k, v in passed.items() if k in known})
        self._carry_over(fresh)
        for callback in (transformers.PrinterCallback, transformers.EarlyStoppingCallback):
            fresh.remove_callback(callback)
        return fresh

    def _carry_over(self, fresh: Any) -> None:
        """What `Trainer.__init__` did not make anew: copied, so that no run leaves anything in the given trainer."""
        given = self.trainer
        memo: dict[int, Any] = {id(given): fresh, id(given.model): fresh.model, id(given.args): fresh.args}
        memo |= {id(shared): shared for shared in (given.train_dataset, given.eval_dataset, given.processing_class)}
        memo |= {id(value): value for value in vars(given).values() if _is_frozen(value)}  # a teacher, say
        for name, value in vars(given).items():
            if name in SETTINGS or (vars(fresh).get(name, fresh) is value and name not in SHARED):
                vars(fresh)[name] = _copy(value, memo)
        for name in ("train_dataset", "eval_dataset"):
            if hasattr(value := getattr(given, name), "set_epoch"):  # it keeps a state that a training moves
                setattr(fresh, name, copy.deepcopy(value))

    def _args(self, lr: float, steps: int, seed: int, folder: str) -> Any:
        given = self.trainer.args
        args = copy.copy(given)  # not dataclasses.replace, which would set up devices and modes again
        horizon = getattr(self, "horizon", 0)
        changes = OFF | {
            "learning_rate": lr,
            "max_steps": steps if steps else 1,
            "seed": seed,
            "data_seed": seed,
            "output_dir": folder,
            "eval_strategy": type(given.eval_strategy)("no"),
            "save_strategy": type(given.save_strategy)("no"),
            "logging_strategy": type(given.logging_strategy)("steps"),
            "logging_steps": max(1, steps // LOGGED),
        }
        if horizon:
            changes |= _warmup(given, steps, horizon)
            lengths: dict[str, Any] = dict(given.lr_scheduler_kwargs or {})  # type: ignore[arg-type]  # parsed by now
            changes["lr_scheduler_kwargs"] = lengths | {
                k: max(1, round(v * steps / horizon)) for k, v in lengths.items() if k in IN_STEPS and v
            }
        for name, value in changes.items():
            if hasattr(given, name):  # not all versions know all
                setattr(args, name, copy.copy(value))
        return args

    # -------------------------------------------------------------------------------------- what the record says

    def _horizon(self, folder: str) -> int:
        """Optimizer steps of the trainer's own run."""
        args = self.trainer.args
        if args.max_steps > 0:
            return int(args.max_steps)
        loader = self._fresh(PROBE, 0, 0, folder).get_train_dataloader()
        try:
            batches = len(loader)
        except TypeError as error:
            raise TaskError(
                "the training data has no length, so its epochs cannot be counted in steps.",
                "Give TrainingArguments(max_steps=...).",
            ) from error
        return math.ceil(args.num_train_epochs * max(1, math.ceil(batches / args.gradient_accumulation_steps)))

    def _look(self, folder: str) -> About:
        """Build optimizer and schedule once, and train nothing."""
        given, args = self.trainer, self.trainer.args
        steps = min(self.horizon, LOOKED_AT)
        fresh = self._fresh(PROBE, steps, 0, folder)
        fresh.create_optimizer_and_scheduler(num_training_steps=steps)
        optimizer, scheduler = fresh.optimizer, fresh.lr_scheduler
        self._at_probe = base_lrs([optimizer])
        points = play(optimizer, PROBE, steps, lambda _: scheduler.step())
        warm = args.get_warmup_steps(self.horizon)
        kind = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
        warmup = f", warmup of {warm:,} steps" if warm else ""
        return About(
            optimizer=in_words(optimizer),
            groups=len(optimizer.param_groups),
            schedule={"foreign": f"transformers' {kind}{warmup}"},
            multipliers=tuple((round(t * self.horizon / steps), value) for t, value in points),
            decays=decays(points),
            judged=_judged(given),
            validation=_validation(given),
            paste=_paste(given),
            alone=f"trainer.train() with {type(args).__name__}(learning_rate={{lr}}, max_steps={{steps}})",
            notes=_notes(given),
        )


NO_EFFECT = (
    "Build the optimizer with args.learning_rate: in create_optimizer, or leave that to Trainer (optim=), "
    + OWN_FUNCTION
)


@contextmanager
def _aside() -> Iterator[str]:
    """A temporary folder, silence, and accelerate's states, which all trainers of a process share, as they were."""
    shared = [kind._shared_state for kind in (GradientState, AcceleratorState)]
    before = [{k: list(v) if isinstance(v, list) else v for k, v in state.items()} for state in shared]
    try:
        with hushed(*PACKAGES), TemporaryDirectory() as folder:
            yield folder
    finally:
        for state, was in zip(shared, before, strict=True):
            state.clear()
            state.update(was)


def _refuse(trainer: Any) -> None:
    """Raise for what cannot be made anew from a trainer's settings."""
    args = trainer.args
    made = getattr(trainer, "_created_lr_scheduler", False)  # by train(), as its optimizer was, mostly
    if trainer.optimizer is not None and not made:
        raise TaskError(
            f"the trainer was given a {type(trainer.optimizer).__name__} that is built already, with its own lr.",
            'Give its class instead: Trainer(optimizer_cls_and_kwargs=(torch.optim.AdamW, {"lr": 1e-3})), '
            + OWN_FUNCTION,
        )
    if args.world_size > 1 or getattr(args, "deepspeed", None):
        raise TaskError(
            "the trainer runs in several processes, or by DeepSpeed.",
            "Find the lr in one process, with gradient_accumulation_steps for the same batch, " + OWN_FUNCTION,
        )
    kind = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
    if kind in ("reduce_lr_on_plateau", "greedy"):
        raise TaskError(
            f"lr_scheduler_type={kind!r} follows a metric, so a short run would not be the long one in small.",
            "Take one that follows the step ('cosine', 'linear' ...), " + OWN_FUNCTION,
        )


def _warmup(args: Any, steps: int, horizon: int) -> dict[str, Any]:
    """A warmup in steps as its share of the run, rounded up as `Trainer` does; one given as a ratio stays."""
    if args.warmup_steps < 1:
        return {}
    return {"warmup_steps": -(-int(args.warmup_steps) * steps // horizon)}


def _optimizer(trainer: Any, lr: float) -> tuple[Any, dict[str, Any]] | None:
    """The optimizer's class and options, where they were given: there, the lr is one of the options."""
    given = getattr(trainer, "optimizer_cls_and_kwargs", None)
    return None if given is None else (given[0], {**given[1], "lr": lr})


def _copied(model: Any) -> Any:
    """A copy of the model, rid of what accelerate wraps around its `forward` in a training."""
    own = copy.deepcopy(model)
    if "_original_forward" in vars(own):
        del own._original_forward
        vars(own).pop("forward", None)
    return own


def _is_frozen(value: Any) -> bool:
    return isinstance(value, nn.Module) and not value.training and not any(p.requires_grad for p in value.parameters())


def _copy(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # a lock, an open file, a live connection: none is a state of the training
        return value


def _judged(trainer: Any) -> str:
    if trainer.eval_dataset is None:
        return "mean training loss of the last tenth of the steps (there is no eval_dataset)"
    many = isinstance(trainer.eval_dataset, dict)
    return f"eval_loss of trainer.evaluate() after the last step{', mean over the data sets' if many else ''}"


def _validation(trainer: Any) -> str:
    sets = trainer.eval_dataset
    if sets is None:
        return "none"
    try:
        many = sum(len(s) for s in sets.values()) if isinstance(sets, dict) else len(sets)
    except TypeError:
        return "eval_dataset"
    return f"eval_dataset, {many:,} examples"


def _paste(trainer: Any) -> str:
    given = getattr(trainer, "optimizer_cls_and_kwargs", None)
    if given is None:
        return f"{type(trainer.args).__name__}(learning_rate={{lr}}, ...)"
    return f'{type(trainer).__name__}(optimizer_cls_and_kwargs=({given[0].__name__}, {{"lr": {{lr}}, ...}}), ...)'


def _notes(trainer: Any) -> tuple[str, ...]:
    found = []
    callbacks = [type(c).__name__ for c in trainer.callback_handler.callbacks if _is_own(c)]
    if callbacks:
        found.append(f"callbacks are left out of the runs: {', '.join(callbacks)}")
    metric = trainer.args.metric_for_best_model
    if trainer.eval_dataset is not None and metric is not None and not metric.endswith("loss"):
        found.append(f"metric_for_best_model is {metric}; the runs are judged by eval_loss")
    return tuple(found)


def _is_own(callback: Any) -> bool:
    return not type(callback).__module__.startswith("transformers.")
