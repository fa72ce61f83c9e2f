"""What a snapshot is of: model, optimizer and gradient scaler, captured and put back to the bit."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..attachment.entries import PEAK
from ..errors import EngineError, OptionError
from ..probes.undisturbed import write_over
from .trees import LEFT, Ref, put_back, take_apart

__all__ = ["State", "Subject"]

# Entries of param groups that belong to the schedule's clock: a handle's peak, and where torch's schedulers start.
SCHEDULES = frozenset({PEAK, "initial_lr"})
SMALL = 2**16  # bytes, for which fresh memory is had at once


@dataclass(frozen=True, eq=False)
class State:
    """A model, its optimizer and scaler at one moment; shares no memory with them.

    Attributes:
        tensors: clones by name; a tensor that is in several places is there once.
        frozen: clones of the parameters that nothing trains, shared by the states in between which none changed.
        plain: everything else, as a tree (`trees.py`) that refers to the tensors.
        devices: of the tensors, for those that a file brought to the CPU.
    """

    tensors: dict[str, Tensor]
    frozen: dict[str, Tensor]
    plain: dict[str, Any]
    devices: dict[str, str]

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key] if key in self.tensors else self.frozen[key]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors that are its own."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def frozen_nbytes(self) -> int:
        """Bytes of the frozen ones, which other states may share."""
        return sum(tensor.nbytes for tensor in self.frozen.values())


class Subject:
    """Captures a training in a `State` and puts it back, exactly; a capture does not wait for a GPU.

    Captured are parameters and buffers (persistent or not), parameters that only the optimizer has, the optimizer's
    state and all values of its param groups, the plain public attributes of optimizers that torch does not bring and
    of optimizers inside them, and the gradient scaler. Never: random states, the position in the data, gradients, the
    clock of a schedule or scheduler, attributes of modules that are no tensors.

    Parameters that nothing trains (no gradient asked for, and not in the optimizer) are cloned once for all states as
    long as they do not change. A change is seen by the version that torch counts for every tensor; one in place through
    `.data` is not counted, so captures number 2, 4, 8, 16 … compare the values, and wait for the GPU then.

    Args:
        model: one module, or several.
        optimizer: of torch, or one that keeps its state in `.state` and `.param_groups` as torch's do.
        scaler: a `torch.amp.GradScaler`, or None.
    """

    def __init__(
        self, model: nn.Module | Sequence[nn.Module], optimizer: torch.optim.Optimizer, scaler: Any = None
    ) -> None:
        self._models = [model] if isinstance(model, nn.Module) else list(model)
        self._optimizer, self._scaler = optimizer, scaler
        self._frozen: dict[str, Tensor] = {}
        self._versions: dict[str, tuple[int, int]] = {}  # of the frozen: where they lie, and torch's count of changes
        self._moved: set[str] = set()  # names of parameters that seemed frozen and were not
        self._seen: dict[str, weakref.ref[Tensor]] = {}  # which tensors were captured last
        self._captures = 0

    @torch.no_grad()
    def capture(self, spare: State | None = None) -> State:
        """The present state, in clones on the devices where the tensors are.

        Args:
            spare: a state of this subject that nobody needs any more, whose memory is used again where it fits:
                tensors of more than 32 MB, whose memory a CPU otherwise has from the system each time, are copied in a
                sixth of the time then. None (default): there is none.

        Raises:
            OptionError: a lazy module has no shapes yet; the optimizer has state of a tensor that it does not train.
        """
        self._captures += 1
        tensors: dict[str, Tensor] = {}
        seen: dict[str, weakref.ref[Tensor]] = {}
        names: dict[int, str] = {}

        def take(key: str, tensor: Tensor) -> Ref:
            if (known := names.get(id(tensor))) is not None:
                return Ref(known)
            names[id(tensor)] = key
            seen[key] = weakref.ref(tensor)
            old = None if spare is None or tensor.nbytes < SMALL else spare.tensors.get(key)
            tensors[key] = tensor.clone() if old is None or not _fits(old, tensor) else old.copy_(tensor)
            return Ref(key)

        trained, places = self._trained(), self._places()
        for key, tensor, _, _ in places:
            if tensor is None or id(tensor) in names:
                continue
            if _is_still(tensor, trained) and self._is_frozen(key, tensor):
                names[id(tensor)] = key
                continue
            if key in self._frozen:  # and is trained from here on
                self._frozen = {k: v for k, v in self._frozen.items() if k != key}
            take(key, tensor)
        plain = self._laid_out(places)
        plain["optimizers"] = [
            self._of_optimizer(i, optimizer, take) for i, optimizer in enumerate(_optimizers(self._optimizer))
        ]
        plain["scaler"] = take_apart(_of_scaler(self._scaler), "scaler", take)
        self._seen = seen
        return State(tensors, self._frozen, plain, {})

    def nbytes(self) -> tuple[int, int]:
        """The bytes that a capture would take now: of its own, and of frozen parameters, which states share."""
        sizes = {"own": 0, "frozen": 0}
        known: set[int] = set()

        def take(key: str, tensor: Tensor, of: str = "own") -> Ref:
            if id(tensor) not in known:
                known.add(id(tensor))
                sizes[of] += tensor.nbytes
            return Ref(key)

        trained = self._trained()
        for key, tensor, _, _ in self._places():
            if tensor is not None:
                take(key, tensor, "frozen" if _is_still(tensor, trained) and key not in self._moved else "own")
        for i, optimizer in enumerate(_optimizers(self._optimizer)):
            self._of_optimizer(i, optimizer, take)
        return sizes["own"], sizes["frozen"]

    @torch.no_grad()
    def restore(self, state: State, leave: Collection[str] = ()) -> None:
        """Put a state back, in place wherever that can be, so that aliases and compiled code stay valid.

        What the optimizer did not have then is removed; tensors that it still has are written into; the others, and
        those that were replaced by other tensors since the last capture, are put in as clones. Buffers that were not
        there then stay.

        Args:
            state: from `capture`; not changed, and not kept.
            leave: entries of param groups that stay as they are: "lr" where a schedule writes it. "initial_lr" and
                a handle's peak are always left.

        Raises:
            EngineError: the model or the optimizer has other parameters now. Nothing was changed then.
        """
        self._must_fit(state)
        clones: dict[str, Tensor] = {}

        def fill(now: Any, ref: Ref) -> Tensor:
            then, known = state[ref.key], self._seen.get(ref.key)
            if (
                isinstance(now, Tensor)
                and now.shape == then.shape
                and now.dtype == then.dtype
                and (known is None or known() is now)
            ):
                write_over(now, then)
                return now
            if ref.key not in clones:
                clones[ref.key] = then.to(state.devices.get(ref.key, then.device), copy=True)
            return clones[ref.key]

        for key, now, owner, name in self._places():
            if key in state.tensors:
                if isinstance(now, nn.Parameter):
                    write_over(now, state.tensors[key])
                else:
                    owner[name] = fill(now, Ref(key))
            elif now is not None and key in state.frozen:
                if not _same(now, state.frozen[key].to(now.device)):
                    write_over(now, state.frozen[key])
            elif now is not None and key in state.plain["empty"]:
                owner[name] = None
        leave = SCHEDULES | set(leave)
        for optimizer, then in zip(_optimizers(self._optimizer), state.plain["optimizers"], strict=True):
            _put_optimizer(optimizer, then, fill, leave)
        if self._scaler is not None and state.plain["scaler"]:
            self._scaler.load_state_dict(
                {k: state[v.key].item() if isinstance(v, Ref) else v for k, v in state.plain["scaler"].items()}
            )

    # the model

    def _places(self) -> list[tuple[str, Tensor | None, dict[str, Any], str]]:
        """Name, value, and the dict and key where it is, of every parameter and buffer; those on "meta" have none."""
        places: list[tuple[str, Tensor | None, dict[str, Any], str]] = []
        for i, model in enumerate(self._models):
            for prefix, module in model.named_modules():
                for own in (module._parameters, module._buffers):
                    for name, tensor in own.items():
                        if is_lazy(tensor):
                            raise OptionError(
                                f"The parameter {prefix}.{name} has no shape yet: its module is lazy.",
                                "Run a batch through the model first.",
                            )
                        if tensor is None or not tensor.is_meta:
                            places.append((f"model{i}.{prefix}.{name}", tensor, own, name))
        return places

    def _trained(self) -> set[int]:
        return {id(p) for group in self._optimizer.param_groups for p in group["params"]}

    def _laid_out(self, places: Sequence[tuple[str, Tensor | None, dict[str, Any], str]]) -> dict[str, Any]:
        """What has to be the same when a state is put back, and which entries are None."""
        return {
            "parameters": {key: tensor.shape for key, tensor, _, _ in places if isinstance(tensor, nn.Parameter)},
            "groups": [[p.shape for p in group["params"]] for group in self._optimizer.param_groups],
            "empty": [key for key, tensor, _, _ in places if tensor is None],
        }

    def _is_frozen(self, key: str, tensor: Tensor) -> bool:
        """Whether the clone that is kept of it holds still."""
        if key in self._moved or tensor.is_inference():
            return False
        if key not in self._frozen:
            self._frozen = {**self._frozen, key: tensor.detach().clone()}
            self._versions[key] = tensor.data_ptr(), tensor._version
            return True
        n = self._captures
        unchanged = self._versions[key] == (tensor.data_ptr(), tensor._version)
        if unchanged and (n & (n - 1) or _same(tensor, self._frozen[key])):
            return True
        self._moved.add(key)
        self._frozen = {k: v for k, v in self._frozen.items() if k != key}
        return False

    def _must_fit(self, state: State) -> None:
        then, laid_out = state.plain, self._laid_out(self._places())
        old, new = then["parameters"], laid_out["parameters"]
        if (
            old == new
            and then["groups"] == laid_out["groups"]
            and len(then["optimizers"]) == len(list(_optimizers(self._optimizer)))
        ):
            return
        if added := new.keys() - old.keys():
            what = f"The model has the parameter {_plain_name(min(added))!r}, which the snapshot lacks"
        elif gone := old.keys() - new.keys():
            what = f"The snapshot holds the parameter {_plain_name(min(gone))!r}, which the model lacks now"
        elif changed := [name for name in old if old[name] != new[name]]:
            name = changed[0]
            what = (
                f"The parameter {_plain_name(name)!r} is {tuple(new[name])} now, and {tuple(old[name])} in the snapshot"
            )
        else:
            is_now, was = (
                f"{len(groups)} param groups of {', '.join(str(len(g)) for g in groups)} tensors"
                for groups in (laid_out["groups"], then["groups"])
            )
            what = f"The optimizer has {is_now} now, and {was} in the snapshot"
        raise EngineError(
            f"{what}. Nothing was restored.", "Begin the watch anew after changing the model or the param groups."
        )

    # the optimizer

    def _of_optimizer(self, i: int, optimizer: Any, take: Any) -> dict[str, Any]:
        places: dict[int, int] = {}
        own: dict[int, Ref] = {}
        groups = []
        for g, group in enumerate(optimizer.param_groups):
            for parameter in group["params"]:
                place = places.setdefault(id(parameter), len(places))
                if i == 0 and not parameter.is_meta:
                    ref = take(f"parameter.{place}", parameter)
                    if ref.key.startswith("parameter."):  # no model has it
                        own[place] = ref
            groups.append({k: take_apart(v, f"optimizer{i}.{g}.{k}", take) for k, v in group.items() if k != "params"})
        state: dict[Any, Any] = {}
        for key, value in optimizer.state.items():
            if isinstance(key, Tensor):
                if id(key) not in places:
                    raise OptionError(
                        f"{type(optimizer).__name__} keeps state of a tensor of shape {tuple(key.shape)} that is in "
                        "none of its param groups.",
                        "Clear the optimizer's state after replacing parameters.",
                    )
                key = places[id(key)]
            state[key] = take_apart(value, f"optimizer{i}.state.{key}", take)
        values = {k: take_apart(v, f"optimizer{i}.{k}", take) for k, v in _attributes(optimizer)}
        return {"own": own, "groups": groups, "state": state, "values": values}


def _fits(old: Tensor, new: Tensor) -> bool:
    return (old.shape, old.stride(), old.dtype, old.device) == (new.shape, new.stride(), new.dtype, new.device)


def _same(a: Tensor, b: Tensor) -> bool:
    return (a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device) and torch.equal(a, b)


def _is_still(tensor: Tensor, trained: Collection[int]) -> bool:
    """Whether nothing seems to train it."""
    return isinstance(tensor, nn.Parameter) and not tensor.requires_grad and id(tensor) not in trained


def _plain_name(key: str) -> str:
    return key.partition(".")[2].lstrip(".")


def _put_optimizer(optimizer: Any, then: Any, fill: Any, leave: Collection[str]) -> None:
    parameters: dict[int, Tensor] = {}
    for group, old in zip(optimizer.param_groups, then["groups"], strict=True):
        for parameter in group["params"]:
            parameters.setdefault(id(parameter), parameter)
        for key in [k for k in group if k != "params" and k not in leave and k not in old]:
            del group[key]
        for key in [k for k, v in old.items() if k not in leave and v is not LEFT]:
            group[key] = put_back(group.get(key), old[key], fill)
    of = list(parameters.values())
    for place, ref in then["own"].items():
        fill(of[place], ref)
    wanted = {of[key] if isinstance(key, int) else key: value for key, value in then["state"].items()}
    for key in [k for k in optimizer.state if k not in wanted]:
        del optimizer.state[key]
    for key, value in wanted.items():
        optimizer.state[key] = put_back(optimizer.state.get(key), value, fill)
    for key, value in then["values"].items():
        setattr(optimizer, key, put_back(getattr(optimizer, key, None), value, fill))


def _optimizers(optimizer: Any) -> Iterator[Any]:
    """The optimizer and those inside it, each state once."""
    todo, known = [optimizer], set[int]()
    while todo:
        one = todo.pop(0)
        if id(one) in known:
            continue
        known.add(id(one))
        yield one
        if not _is_plain(one):
            todo += [v for v in getattr(one, "__dict__", {}).values() if isinstance(v, torch.optim.Optimizer)]


def _is_plain(optimizer: Any) -> bool:
    return type(optimizer).__module__.startswith("torch.optim.")


def _attributes(optimizer: Any) -> list[tuple[str, Any]]:
    """What an optimizer that torch does not bring keeps beside its state: its own public numbers and tensors."""
    if _is_plain(optimizer):
        return []
    return [
        (k, v)
        for k, v in vars(optimizer).items()
        if not k.startswith("_") and isinstance(v, bool | int | float | Tensor)
    ]


def _of_scaler(scaler: Any) -> dict[str, Any]:
    """The scaler's state; its own `state_dict` would wait for the GPU."""
    if scaler is None:
        return {}
    tensors = {"scale": getattr(scaler, "_scale", None), "_growth_tracker": getattr(scaler, "_growth_tracker", None)}
    if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        plain: dict[str, Any] = scaler.state_dict()
        return plain
    return {
        **tensors,
        "growth_factor": scaler.get_growth_factor(),
        "backoff_factor": scaler.get_backoff_factor(),
        "growth_interval": scaler.get_growth_interval(),
    }
