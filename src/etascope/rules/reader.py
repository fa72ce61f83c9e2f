"""The rule of a user's own optimizers, read from their class and options."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import EngineError
from .adadelta import Adadelta
from .adagrad import Adagrad
from .adam import Adam
from .adamax import Adamax
from .adamw import AdamW
from .asgd import ASGD
from .base import Number, Rule, State, cast
from .lion import Lion
from .nadam import NAdam
from .proof import departure, shadow
from .radam import RAdam
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["UnknownRule", "Update", "UpdateFunction", "by_parts", "read"]

RULES: Mapping[type[torch.optim.Optimizer], type[Rule]] = {
    torch.optim.SGD: SGD,
    torch.optim.Adagrad: Adagrad,
    torch.optim.RMSprop: RMSprop,
    torch.optim.Adam: Adam,
    torch.optim.AdamW: AdamW,
    torch.optim.Adadelta: Adadelta,
    torch.optim.Adamax: Adamax,
    torch.optim.NAdam: NAdam,
    torch.optim.RAdam: RAdam,
    torch.optim.ASGD: ASGD,
}
NAMED: Mapping[str, type[Rule]] = {"Lion": Lion}  # not in torch: whose class it is, a few steps must show
NO_RULE = {  # why not, where it may be asked
    "Adafactor": ": it sees whole matrices, and rules see each parameter by itself",
    "Muon": ": it sees whole matrices, and rules see each parameter by itself",
    "Rprop": ": its first step alone takes the lr, and rules take it in each",
    "SparseAdam": ": it takes sparse gradients, and lanes have none",
}
NO_MEANING = {"foreach", "fused", "capturable", "differentiable"}  # how to compute, not what
NOT_OPTIONS = {"name", "params", "param_names", "lr", "lr_scale", "initial_lr"}
NEXT_MOVE = "The loop engine trains with any torch optimizer: engine='loop'."


SMALL = 2**15  # numbers of a stack's parameters: above, param groups are updated each by itself, if they are few
FEW = 8


class UnknownRule(EngineError):
    """No rule does what this optimizer does; says which class or option."""


class UpdateFunction(Protocol):
    """Parameters and state after one update; the tensors are donated, as in `Rule.update`."""

    def __call__(
        self, params_LP: Tensor, grads_LP: Tensor, state: State, lr_L1: Tensor, t: int, /
    ) -> tuple[Tensor, State]:
        """Update."""


@dataclass(frozen=True, eq=False)
class Update:
    """A rule, and the ratio of each group's lr to its lane's peak lr.

    Args:
        rule: the update rule with the user's options.
        lr_scale: group lr / peak lr; a float, or a tensor broadcastable to LP.
    """

    rule: Rule
    lr_scale: Number = 1.0

    def init(self, params_LP: Tensor) -> State:
        """The state before the first update."""
        return self.rule.init(params_LP)

    def __call__(
        self, params_LP: Tensor, grads_LP: Tensor, state: State, lr_L1: Tensor, t: int
    ) -> tuple[Tensor, State]:
        """One update at lr_L1 = peak lr · schedule; the tensors are donated, as in `Rule.update`."""
        if parts := self.parts(params_LP, state):
            return by_parts(parts, params_LP, grads_LP, state, lr_L1, t)
        return self.rule.update(params_LP, grads_LP, state, self._scaled(lr_L1), t)

    def parts(self, params_LP: Tensor, state: State) -> Sequence[tuple[slice, Update]]:
        """Ranges of columns to update each by itself, and their updates; none where all are better updated at once."""
        if params_LP.numel() <= SMALL or any(tensor.shape != params_LP.shape for tensor in state.values()):
            return ()
        return self._groups

    @cached_property
    def _groups(self) -> Sequence[tuple[slice, Update]]:
        """Ranges of columns and their updates, in which numbers that differ between groups are one number again.

        Empty where there is one group, or so many that to take each by itself would cost more than it spares.
        """
        numbers = (self.lr_scale, *(getattr(self.rule, f.name) for f in fields(self.rule)))  # type: ignore[arg-type]
        borders = sorted(_borders(numbers))
        if not 0 < len(borders) < FEW:
            return ()
        ranges = [slice(a, b) for a, b in zip([0, *borders], [*borders, None], strict=True)]
        return [(at, self.of(at)) for at in ranges]

    def is_alike(self, other: Update) -> bool:
        """Whether the other does the same, number by number."""
        if type(self.rule) is not type(other.rule):
            return False
        pairs = [(getattr(self.rule, f.name), getattr(other.rule, f.name)) for f in fields(self.rule)]  # type: ignore[arg-type]
        return all(_same(one, another) for one, another in [*pairs, (self.lr_scale, other.lr_scale)])

    def effective_lr(self, state: State, lr_L1: Tensor, t: int) -> Tensor:
        """Each parameter's step size in the update that returned `state`, as in `Rule.effective_lr`."""
        return self.rule.effective_lr(state, self._scaled(lr_L1), t)

    def _scaled(self, lr_L1: Tensor) -> Tensor:
        is_one = not isinstance(self.lr_scale, Tensor) and self.lr_scale == 1  # one group, mostly
        return lr_L1 if is_one else lr_L1 * cast(self.lr_scale, lr_L1)

    def of(self, columns: Tensor | slice) -> Update:
        """The same update of these of the P parameters alone."""
        options = {f.name: _of(getattr(self.rule, f.name), columns) for f in fields(self.rule)}  # type: ignore[arg-type]
        return Update(replace(self.rule, **options), _of(self.lr_scale, columns))  # type: ignore[type-var]


def by_parts(
    parts: Sequence[tuple[slice, UpdateFunction]],
    params_LP: Tensor,
    grads_LP: Tensor,
    state: State,
    lr_L1: Tensor,
    t: int,
) -> tuple[Tensor, State]:
    """One update of ranges of columns, each by its own; the tensors are donated, and changed in place."""
    for at, update in parts:
        params, given = params_LP[:, at], {name: tensor[:, at] for name, tensor in state.items()}
        moved, new = update(params, grads_LP[:, at], dict(given), lr_L1, t)
        for tensor, result in [(params, moved), *((given[name], new[name]) for name in given)]:
            if result is not tensor:
                tensor.copy_(result)
    return params_LP, state


def read(optimizers: Sequence[torch.optim.Optimizer], lrs: Sequence[float]) -> Update:
    """The update that these optimizers, one per lane and not stepped yet, would do.

    P is their `param_groups[i]["params"]` in order, each tensor flattened. Numbers may differ between groups
    and lanes; options that only say how to compute (foreach, fused, capturable) are ignored. Of a class that is
    not torch's, but has a rule by its name (Lion), small copies are stepped: it must do what the rule does.

    Args:
        optimizers: the lanes' optimizers, over parameters of equal shapes.
        lrs: the lanes' peak lrs.

    Raises:
        UnknownRule: the class (matched exactly) has no rule or departs from it, or an option has no meaning to it.

    >>> w = torch.nn.Parameter(torch.zeros(3))
    >>> read([torch.optim.SGD([w], lr=lr, momentum=0.9) for lr in (0.1, 0.2)], [0.1, 0.2])
    Update(rule=SGD(momentum=0.9, ...), lr_scale=1.0)
    """
    first = optimizers[0]
    name = type(first).__name__
    for opt in optimizers:
        if why := _unfit(opt, first):
            raise UnknownRule(f"optimizer {type(opt).__name__} {why}", NEXT_MOVE)
    if type(first) in RULES:
        return _read(RULES[type(first)], optimizers, lrs)
    small = [shadow(opt) for opt in optimizers]
    ratios_LG = [[float(group["lr"]) / lr for group in opt.param_groups] for opt, lr in zip(small, lrs, strict=True)]
    if why := departure(small, ratios_LG, _read(NAMED[name], small, lrs)):
        raise UnknownRule(f"optimizer {name} of {type(first).__module__} {why}", NEXT_MOVE)
    return _read(NAMED[name], optimizers, lrs)


def _read(rule: type[Rule], optimizers: Sequence[torch.optim.Optimizer], lrs: Sequence[float]) -> Update:
    first = optimizers[0]
    name, proven = type(first).__name__, type(first) not in RULES
    options_LG = [[_options(opt, group) for group in opt.param_groups] for opt in optimizers]
    known = {f.name: f.default for f in fields(rule)}  # type: ignore[arg-type]  # every rule is a dataclass
    if issubclass(rule, Adam):  # torch goes by this option, whatever the class
        decoupled = _uniform(name, "decoupled_weight_decay", options_LG, default=rule is AdamW)
        rule = AdamW if decoupled else Adam
    for options in (options for row in options_LG for options in row):
        if options.get("differentiable"):
            raise UnknownRule(
                f"option differentiable of {name} makes updates part of a graph, and rules have none",
                "Leave it False: with it, torch itself does not update parameters that require grad.",
            )
        for option in options.keys() - NO_MEANING - NOT_OPTIONS:
            if option not in known and proven:
                continue  # it had its effect, if any, in the steps that were tried
            if option not in known and not (option == "decoupled_weight_decay" and issubclass(rule, Adam)):
                raise UnknownRule(f"option {option} of {name} is not known to its rule", NEXT_MOVE)
            if options[option] is None:
                raise UnknownRule(f"option {option}=None of {name} is not a number", NEXT_MOVE)

    sizes_G = [sum(p.numel() for p in group["params"]) for group in first.param_groups]
    device = next((p.device for group in first.param_groups for p in group["params"]), torch.device("cpu"))

    def spread(values_LG: list[list[Any]]) -> Number:
        return _spread([[float(value) for value in row] for row in values_LG], sizes_G, device)

    chosen: dict[str, Any] = {}
    for option, default in known.items():
        values_LG = [[options.get(option, default) for options in row] for row in options_LG]
        if isinstance(default, bool):
            chosen[option] = _uniform(name, option, options_LG, default)
        elif isinstance(default, tuple):
            chosen[option] = tuple(spread([[v[i] for v in row] for row in values_LG]) for i in range(len(default)))
        else:
            chosen[option] = spread(values_LG)
    ratios_LG = [[float(o["lr"]) / lr for o in row] for row, lr in zip(options_LG, lrs, strict=True)]
    return Update(rule(**chosen), spread(ratios_LG))


def _unfit(opt: torch.optim.Optimizer, first: torch.optim.Optimizer) -> str | None:
    """Why no rule can do what this optimizer does; None if one can."""
    if type(opt) not in RULES and type(opt).__name__ not in NAMED:
        return "has no rule" + NO_RULE.get(type(opt).__name__, "")
    if type(opt) is not type(first):
        return f"trains one lane, and {type(first).__name__} another; a rule is the same for all"
    if opt._optimizer_step_pre_hooks or opt._optimizer_step_post_hooks:
        return "has step hooks, which a rule does not call"
    if any(state and float(state.get("step", 1)) > 0 for state in opt.state.values()):
        return "has taken steps before, and a rule starts anew"
    if any(p.is_complex() for group in opt.param_groups for p in group["params"]):
        return "has complex parameters, and no rule does"
    if _shapes(opt) != _shapes(first):
        return "has other param groups from lane to lane"
    return None


def _shapes(opt: torch.optim.Optimizer) -> list[list[torch.Size]]:
    return [[p.shape for p in group["params"]] for group in opt.param_groups]


def _options(opt: torch.optim.Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    """The group's options as torch uses them."""
    options = dict(group)
    if type(opt) is torch.optim.Adagrad:  # torch takes this one from the constructor alone
        options["initial_accumulator_value"] = opt.defaults["initial_accumulator_value"]
    if type(opt) is torch.optim.SGD and options["momentum"] == 0:  # no buffer, so nothing to dampen
        options["dampening"] = 0.0
    return options


def _uniform(name: str, option: str, options_LG: Sequence[Sequence[dict[str, Any]]], default: bool) -> bool:
    """An option that is the same over groups and lanes."""
    values = {bool(options.get(option, default)) for row in options_LG for options in row}
    if len(values) > 1:
        raise UnknownRule(f"option {option} of {name} differs between param groups or lanes", NEXT_MOVE)
    return values.pop()


def _spread(rows: list[list[float]], sizes_G: list[int], device: torch.device) -> Number:
    """Rows of values per group, one row per lane, as a float if all are equal, else a small tensor."""
    if all(_close(value, row[0]) for row in rows for value in row):
        rows = [row[:1] for row in rows]
    if all(_close(a, b) for row in rows for a, b in zip(row, rows[0], strict=True)):
        rows = rows[:1]
    if len(rows) == len(rows[0]) == 1:
        return rows[0][0]
    dtype = torch.float32 if device.type == "mps" else torch.float64  # mps has no float64
    values = torch.tensor(rows, dtype=dtype, device=device)
    if len(rows[0]) == 1:
        return values
    return values.repeat_interleave(torch.tensor(sizes_G, device=device), dim=1)


def _of(value: Any, columns: Tensor | slice) -> Any:
    """An option's value for some parameters alone; for a range of them, one number a lane where that is enough."""
    if isinstance(value, tuple):
        return tuple(_of(v, columns) for v in value)
    if not isinstance(value, Tensor) or value.shape[1] == 1:
        return value
    part = value[:, columns]
    if isinstance(columns, slice) and torch.equal(part, part[:, :1].expand_as(part)):
        part = part[:, :1]
        return float(part) if part.numel() == 1 else part
    return part


def _borders(value: Any) -> set[int]:
    """The columns from which on an option's value is another one."""
    if isinstance(value, tuple):
        return set().union(*map(_borders, value))
    if not isinstance(value, Tensor) or value.shape[1] == 1:
        return set()
    return set(((value[:, 1:] != value[:, :-1]).any(dim=0).nonzero().flatten() + 1).tolist())


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-14)  # 0.1 · lr / lr is not the same to the bit for every lr


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return not isinstance(one, Tensor) and not isinstance(other, Tensor) and bool(one == other)
