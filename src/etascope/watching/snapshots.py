"""The ring of snapshots: taken on trial, good after some healthy steps, and what a rewind goes back to."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import OptionError, RecordError
from ..numbers import size as bytes_in_words
from . import filing
from .subject import State, Subject
from .trees import from_json, to_json

__all__ = ["Ring"]

SCHEMA = "etascope.ring/1"


@dataclass(eq=False)
class _Snapshot:
    step: int
    extra: Any  # a tree
    nbytes: int
    state: State | None  # None once it is on disk
    name: str = ""  # of its files; empty while it has none
    frozen: str = ""
    good: bool = False
    writing: threading.Thread | None = None
    fault: str = ""
    frozen_nbytes: int = 0
    lent: bool = False  # a saved state has its tensors


class Ring:
    """The last few good snapshots of a training, and the one on trial.

    A snapshot is on trial until `healthy` steps went by; `confirm` makes it good then, and the oldest beyond `keep`
    goes. An alarm that comes first drops it (`doubt`). There is one on trial at a time, so at most keep + 1 snapshots.

    In memory, a snapshot stays on the devices where the tensors are, and neither `take` nor `confirm` waits for a GPU.
    With a folder, a thread writes each one to disk (safetensors and JSON) and the memory is given back then; only the
    next `take` waits for it. What cannot be written does not stop the training: `fault` says it, and the snapshot
    does not count.

    Args:
        subject: what the snapshots are of.
        keep: good snapshots, at least 1.
        healthy: steps without an alarm after which a snapshot is good, at least 0.
        folder: where to write them; None (default) keeps them in memory.
        limit_bytes: of all snapshots together, in memory or in the folder; fewer than `keep` are kept where they would
            be more. Default None: no limit.

    Raises:
        OptionError: `keep`, `healthy` or `limit_bytes` is out of range.
    """

    def __init__(
        self,
        subject: Subject,
        keep: int = 2,
        healthy: int = 20,
        folder: str | os.PathLike[str] | None = None,
        limit_bytes: int | None = None,
    ) -> None:
        for value, name, least in ((keep, "keep", 1), (healthy, "healthy", 0), (limit_bytes, "limit_bytes", 1)):
            if value is not None and value < least:
                raise OptionError(f"{name} is {value}.", f"Give at least {least}.")
        self._subject, self._healthy, self._limit = subject, healthy, limit_bytes
        self._keep = self._asked = keep
        self._folder = None if folder is None else Path(folder)
        self._snapshots: list[_Snapshot] = []  # oldest first; only the last can be on trial
        self._pinned: frozenset[str] = frozenset()  # files that a saved state names
        self._unwanted: set[str] = set()  # pinned, and not in the ring any more
        self._run, self._count = uuid.uuid4().hex[:8], 0
        self._frozen_on_disk: tuple[Any, str] = None, ""
        self._spare: State | None = None  # of the snapshot that went last; with it there are keep + 1 at most
        self._fault = ""

    # what is there

    @property
    def good(self) -> tuple[int, ...]:
        """The steps that a rewind can go to, oldest first."""
        return tuple(snapshot.step for snapshot in self._settled() if snapshot.good)

    @property
    def on_trial(self) -> int | None:
        """The step of the snapshot that is not good yet."""
        return next((snapshot.step for snapshot in self._settled() if not snapshot.good), None)

    @property
    def keep(self) -> int:
        """Good snapshots that are kept: as asked, or what the limit has room for."""
        return self._keep

    @property
    def fault(self) -> str:
        """Why a snapshot was lost, the last time that one was; empty if none."""
        self._settled()
        return self._fault

    # its turns

    def look(self) -> None:
        """Drop the snapshots whose files are gone; `fault` says which."""
        for snapshot in self._settled():
            if snapshot.state is None and not self._is_on_disk(snapshot):
                snapshot.fault = f"its files in {self._folder} are gone"
        self._settled()

    def take(self, step: int, extra: Mapping[str, Any] | None = None) -> bool:
        """Take a snapshot, on trial. Nothing is taken while another is on trial.

        Args:
            step: updates made so far; more than at the last snapshot.
            extra: plain data to be kept with it, given back by `rewind`.

        Returns:
            Whether one was taken.

        Raises:
            OptionError: the limit has no room for two snapshots, at the first one (later ones, whose size grew, are
                left out, and `fault` says it); the step is not a later one; see also `Subject.capture`.
        """
        self.look()
        snapshots = self._settled()
        if snapshots and not snapshots[-1].good:
            return False
        if snapshots and step <= snapshots[-1].step:
            raise OptionError(
                f"There is a snapshot of step {snapshots[-1].step}, and another is taken at step {step}.",
                "Count the steps on, or rewind.",
            )
        if self._limit is not None and not self._has_room(self._limit, first=self._count == 0):
            return False
        if snapshots and (writing := snapshots[-1].writing) is not None:
            writing.join()
            self._settled()
        state, self._spare = self._subject.capture(self._spare), None
        self._count += 1
        snapshot = _Snapshot(step, copy.deepcopy(dict(extra or {})), state.nbytes, state)
        snapshot.frozen_nbytes = state.frozen_nbytes
        self._snapshots.append(snapshot)
        if self._folder is not None:
            self._write(snapshot, self._folder)
        return True

    def confirm(self, step: int) -> None:
        """No alarm up to this step: a snapshot of `healthy` steps ago, or earlier, becomes good."""
        for snapshot in self._settled():
            snapshot.good = snapshot.good or snapshot.step <= step - self._healthy
        self._trim(self._keep)

    def doubt(self) -> None:
        """An alarm: the snapshot on trial goes."""
        for snapshot in [s for s in self._settled() if not s.good]:
            self._drop(snapshot)

    def rewind(self, back: int = 0, leave: Collection[str] = ()) -> tuple[int, dict[str, Any]]:
        """Put the newest good snapshot back; those taken later go.

        Args:
            back: how many good ones to pass over; default 0.
            leave: as in `Subject.restore`: "lr" where a schedule writes it.

        Returns:
            Its step, and what was kept with it.

        Raises:
            OptionError: there are not so many good ones.
            EngineError: the model or the optimizer has other parameters now.
            RecordError: its files cannot be read. Whatever is raised, nothing was changed.
        """
        good = [snapshot for snapshot in self._settled() if snapshot.good]
        if not 0 <= back < len(good):
            steps = ", ".join(str(snapshot.step) for snapshot in good) or "none"
            raise OptionError(
                f"There is no good snapshot to go back to (back={back}; there: {steps}).",
                "Go on, or stop the run: a snapshot is good after some healthy steps.",
            )
        snapshot = good[-1 - back]
        self._subject.restore(self._state_of(snapshot), leave)
        for later in [s for s in self._snapshots if s.step > snapshot.step]:
            self._drop(later)
        return snapshot.step, copy.deepcopy(snapshot.extra)

    def clear(self) -> None:
        """Drop them all: the model or the optimizer has other parameters now."""
        for snapshot in self._settled():
            self._drop(snapshot)

    def close(self) -> None:
        """Remove the files that no saved state names; what is in memory stays."""
        if self._folder is None:
            return
        self.wait()
        self._frozen_on_disk = None, ""
        for snapshot in [s for s in self._snapshots if s.name not in self._pinned]:
            self._drop(snapshot)

    def wait(self) -> None:
        """Wait until everything taken is on disk."""
        for snapshot in list(self._snapshots):
            if snapshot.writing is not None:
                snapshot.writing.join()
        self._settled()

    # the state

    def state_dict(self, tensors: bool = True) -> dict[str, Any]:
        """The ring as plain data and tensors, for torch.save.

        With a folder it names the files, and these stay until the next call, so that a checkpoint finds them.

        Args:
            tensors: False leaves out the snapshots that are in memory.
        """
        self.wait()
        saved = []
        for s in self._snapshots:
            own: dict[str, Any] = {"step": s.step, "good": s.good, "extra": to_json(s.extra)}
            if s.name:
                own |= {"name": s.name, "frozen": s.frozen, "nbytes": s.nbytes, "frozen_nbytes": s.frozen_nbytes}
            elif tensors and s.state is not None:
                state = s.state
                s.lent = True
                own |= {"tensors": dict(state.tensors), "frozen_tensors": dict(state.frozen)}
                own |= {"plain": to_json(state.plain), "devices": dict(state.devices)}
            else:
                continue
            saved.append(own)
        self._pin(saved)
        folder = "" if self._folder is None else str(self._folder.absolute())
        return {"schema": SCHEMA, "folder": folder, "snapshots": saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the snapshots of a saved ring; those that this one had go.

        Files are looked for in this ring's folder, then in the saved one's. A snapshot whose files are gone is left
        out, and `fault` says it.

        Raises:
            RecordError: no state of a ring, or one of a newer etascope.
        """
        if state.get("schema") != SCHEMA:
            raise RecordError(f"The ring's state is {state.get('schema')!r}.", f"This etascope reads {SCHEMA!r}.")
        for snapshot in self._settled():
            self._drop(snapshot)
        self._spare = None
        for saved in state["snapshots"]:
            try:
                snapshot = self._loaded(saved, str(state["folder"]))
            except RecordError as error:
                self._tell(f"The snapshot of step {saved['step']} is lost: {error.cause}")
                continue
            self._snapshots.append(snapshot)
            self._count += 1
            if self._folder is not None and not snapshot.name:
                self._write(snapshot, self._folder)
                self.wait()
        self._pin([saved for saved in state["snapshots"] if "name" in saved])

    def _loaded(self, saved: Mapping[str, Any], folder: str) -> _Snapshot:
        step, good, extra = int(saved["step"]), bool(saved["good"]), from_json(saved["extra"])
        if "name" not in saved:
            # Clones: the checkpoint is the caller's.
            tensors, frozen = (
                {k: t.detach().clone() for k, t in saved[key].items()} for key in ("tensors", "frozen_tensors")
            )
            state = State(tensors, frozen, from_json(saved["plain"]), dict(saved["devices"]))
            return _Snapshot(step, extra, state.nbytes, state, good=good, frozen_nbytes=state.frozen_nbytes)
        name = str(saved["name"])
        if self._folder is not None and (self._folder / f"{name}.json").exists():
            snapshot = _Snapshot(step, extra, int(saved["nbytes"]), None, name, str(saved["frozen"]), good)
            snapshot.frozen_nbytes = int(saved["frozen_nbytes"])
            return snapshot
        state, _ = filing.read(Path(folder), name)
        return _Snapshot(step, extra, state.nbytes, state, good=good, frozen_nbytes=state.frozen_nbytes)

    # memory and disk

    def _has_room(self, limit: int, first: bool) -> bool:
        """Whether a snapshot of the present size fits; older ones make room for it."""
        own, frozen = self._subject.nbytes()
        room = (limit - frozen) // max(own, 1)
        if room < 2:
            cause = (
                f"The snapshots may take {bytes_in_words(limit)} together (limit_bytes={limit:,}), and one takes "
                f"{bytes_in_words(own)}{f' beside {bytes_in_words(frozen)} of frozen parameters' if frozen else ''}; "
                f"it needs two, one good and one on trial: {2 * own + frozen:,} bytes."
            )
            if first:
                where = "" if self._folder is not None else ", or give folder= to keep them on disk"
                raise OptionError(cause, f"Raise limit_bytes{where}.")
            self._tell(cause)
            return False
        self._keep = min(self._asked, room - 1)
        self._trim(self._keep)
        return True

    def _write(self, snapshot: _Snapshot, folder: Path) -> None:
        state = snapshot.state
        assert state is not None
        name = f"snapshot-{self._run}-{self._count:06d}"
        frozen, write_frozen = "", False
        if state.frozen:
            write_frozen = self._frozen_on_disk[0] is not state.frozen
            frozen = f"frozen-{self._run}-{self._count:06d}.safetensors" if write_frozen else self._frozen_on_disk[1]
            self._frozen_on_disk = state.frozen, frozen
        ready = filing.events(state)
        snapshot.name, snapshot.frozen = name, frozen

        def run() -> None:
            try:
                devices = {key: str(t.device) for key, t in state.tensors.items() if t.device.type != "cpu"}
                if write_frozen:
                    filing.write_tensors(folder / frozen, filing.on_cpu(state.frozen, ready))
                there = replace(state, tensors=filing.on_cpu(state.tensors, ready), devices=state.devices | devices)
                filing.write(folder, name, there, frozen, snapshot.step, snapshot.extra)
                snapshot.state = None
            except Exception as error:  # whatever it is, the training goes on
                snapshot.fault = str(error) or repr(error)

        # No daemon: a run that ends leaves its last snapshot whole.
        snapshot.writing = threading.Thread(target=run, name=f"etascope {name}")
        snapshot.writing.start()

    def _state_of(self, snapshot: _Snapshot) -> State:
        state = snapshot.state
        if state is None and self._folder is not None:
            state, _ = filing.read(self._folder, snapshot.name)
        assert state is not None
        return state

    def _is_on_disk(self, snapshot: _Snapshot) -> bool:
        assert self._folder is not None
        names = [f"{snapshot.name}.json", f"{snapshot.name}.safetensors", snapshot.frozen]
        return all((self._folder / name).exists() for name in names if name)

    def _settled(self) -> list[_Snapshot]:
        """The snapshots, without those that are lost."""
        for snapshot in [s for s in self._snapshots if s.fault]:
            self._tell(f"The snapshot of step {snapshot.step} is lost: {snapshot.fault}")
            if self._frozen_on_disk[1] == snapshot.frozen:
                self._frozen_on_disk = None, ""
            self._drop(snapshot)
        return list(self._snapshots)

    def _tell(self, fault: str) -> None:
        self._fault = fault

    def _trim(self, keep: int) -> None:
        good = [snapshot for snapshot in self._snapshots if snapshot.good]
        for snapshot in good[: max(0, len(good) - keep)]:
            self._drop(snapshot)

    def _drop(self, snapshot: _Snapshot) -> None:
        self._snapshots.remove(snapshot)
        if snapshot.writing is not None:
            snapshot.writing.join()
        if self._folder is None and not snapshot.lent:
            self._spare = snapshot.state
        snapshot.state = None
        if snapshot.name:
            self._unwanted |= {snapshot.name, snapshot.frozen} - {""}
            self._clean()

    def _pin(self, saved: list[dict[str, Any]]) -> None:
        self._pinned = frozenset(str(s[key]) for s in saved for key in ("name", "frozen") if s.get(key))
        self._clean()

    def _clean(self) -> None:
        """Remove the files that neither the ring nor a saved state needs."""
        if self._folder is None:
            return
        needed = self._pinned | {n for s in self._snapshots for n in (s.name, s.frozen)} | {self._frozen_on_disk[1]}
        for name in self._unwanted - needed:
            if name.endswith(".safetensors"):
                with contextlib.suppress(OSError):
                    (self._folder / name).unlink(missing_ok=True)
            else:
                filing.remove(self._folder, name)
            self._unwanted.discard(name)
