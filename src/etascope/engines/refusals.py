"""Why lanes cannot train a task: what they would train otherwise than torch does, and what `vmap` cannot take."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import EngineError, EtascopeError
from .apart import finite
from .base import Setting
from .blame import exited, user_code
from .prepared import Objective, Prepared, has_hooks
from .randomness import seed_all
from .stack import NEXT_MOVE, Stack, quiet, stackable

__all__ = ["first_sentence", "refusal", "refuse"]

LOOKS = 3  # batches that show whether every parameter has a gradient: layers may be dropped at random


def refusal(prepared: Prepared, seed: int, settings: Sequence[Setting] = ()) -> str | None:
    """Why lanes cannot train the task, naming the module and the cause; None if they can.

    The task itself was checked before, so what fails here fails for `vmap`.

    Args:
        prepared: the checked task.
        seed: the seed of the look.
        settings: what is to be trained, where it differs in more than seed and lr.
    """
    if (reason := _otherwise(prepared, seed)) is not None:
        return reason
    pairs = [[Setting(seed, 1e-4), Setting(seed, 2e-4)], *_of_every_option(prepared, settings)]
    return next((reason for pair in pairs if (reason := _not_for_vmap(prepared, pair)) is not None), None)


def _of_every_option(prepared: Prepared, settings: Sequence[Setting]) -> list[list[Setting]]:
    """Small stacks in which every option occurs, and differs between lanes where it does."""
    stacks = []
    for together in stackable(prepared, settings).values():
        chosen: dict[Setting, None] = {}
        for name in sorted({name for s in together for name, _ in s.options}):
            having = [s for s in together if name in dict(s.options)]
            other = next((s for s in together if dict(s.options).get(name) != dict(having[0].options)[name]), having[0])
            chosen |= {having[0]: None, other: None}
        if chosen:
            stacks.append(sorted(chosen))
    return stacks


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
        with user_code("loss"), prepared.autocast():
            loss = built.objective(finite(next(batches)))
        with user_code("loss"):
            loss.backward()
        for name, buffer in built.objective.named_buffers():
            if buffer is not buffers.get(name):
                return f"it replaces its buffer {name.removeprefix('model.')!r} instead of changing it in place"
        if unused := [name for name, q in named.items() if q.grad is None and id(q) in optimized]:
            return f"its parameter {unused[0]!r} has no gradient, and torch's optimizers pass such parameters over"
    return None


def _not_for_vmap(prepared: Prepared, unit: Sequence[Setting]) -> str | None:
    """Why a stack of these cannot be made, or cannot take a gradient and an evaluation."""
    model = prepared.model(unit[0].seed)
    try:
        stack = Stack(prepared, unit, replays=False)
        model = stack.objective.model
        batch = finite(next(stack.batches(-1)))
        seed_all("check", unit[0].seed)
        with quiet():
            grads_LP, losses_L = stack.gradients([batch])
            if prepared.validation:
                stack.validate((0,))
    except EtascopeError as error:
        return error.cause.splitlines()[0]
    except SystemExit as error:
        raise exited("the task's loss", error) from error
    except Exception as error:
        return f"vmap cannot take {_module_of(error, model)}: {first_sentence(error).removeprefix('vmap: ')}"
    if losses_L.shape != (len(unit),) or grads_LP.shape != stack.params_LP.shape:
        return "its loss does not keep lanes apart"
    return None


def refuse(reason: str) -> EngineError:
    """The error for an explicit `engine="lanes"` that cannot be."""
    return EngineError(f"the lane engine cannot train this task: {reason}.", NEXT_MOVE)


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
