"""Snapshots on disk: one safetensors file and one of JSON each, written whole or not at all.

`NAME.safetensors` holds the tensors, `NAME.json` all else, and the name of the safetensors file with the frozen
parameters, which snapshots share. The JSON comes last: where it is, the snapshot is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import RecordError
from ..storage import unwritable, write_atomically
from .subject import State
from .trees import from_json, to_json

__all__ = ["SCHEMA", "events", "on_cpu", "read", "remove", "write", "write_tensors"]

SCHEMA = "etascope.snapshot/1"


def events(state: State) -> dict[torch.device, torch.cuda.Event]:
    """For each GPU, when the clones that were asked for are made."""
    devices = {tensor.device for own in (state.tensors, state.frozen) for tensor in own.values() if tensor.is_cuda}
    return {device: torch.cuda.current_stream(device).record_event() for device in devices}


def on_cpu(tensors: Mapping[str, Tensor], ready: Mapping[torch.device, torch.cuda.Event]) -> dict[str, Tensor]:
    """The tensors on the CPU; copied beside the training's own stream, once `ready` has come.

    Made for a thread of its own, which waits for the copies.
    """
    copies: dict[str, Tensor] = {key: tensor.cpu() for key, tensor in tensors.items() if tensor.device not in ready}
    for device, event in ready.items():
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            stream.wait_event(event)
            for key, tensor in tensors.items():
                if tensor.device == device:
                    pinned = torch.empty_like(tensor, device="cpu", pin_memory=True)
                    copies[key] = pinned.copy_(tensor, non_blocking=True)
        stream.synchronize()
    return {key: copies[key] for key in tensors}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        RecordError: the folder cannot be written or the disk is full.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: _real(tensor).contiguous() for key, tensor in tensors.items()}, part)
        with part.open("rb") as f:
            os.fsync(f.fileno())
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    except Exception as error:  # safetensors has errors of its own for a full disk
        raise RecordError(f"cannot write {path}: {error}", "Free some space, or choose another folder.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write(folder: Path, name: str, state: State, frozen: str, step: int, extra: Any) -> None:
    """Write a snapshot whose tensors are on the CPU; `frozen` names the file of those that are shared, or is empty.

    Raises:
        RecordError: it cannot be written.
    """
    write_tensors(folder / f"{name}.safetensors", state.tensors)
    data = {
        "schema": SCHEMA,
        "step": step,
        "frozen": frozen,
        "extra": to_json(extra),
        "plain": to_json(state.plain),
        "devices": state.devices,
        "complex": [key for key, t in {**state.tensors, **state.frozen}.items() if t.is_complex()],
        "strides": {key: list(t.stride()) for key, t in state.tensors.items() if not t.is_contiguous()},
    }
    write_atomically(folder / f"{name}.json", json.dumps(data, allow_nan=False))


def read(folder: Path, name: str) -> tuple[State, str]:
    """The state, on the CPU, and the name of the file with its frozen parameters.

    Raises:
        RecordError: the files are gone, damaged, or of a newer etascope.
    """
    try:
        data = json.loads((folder / f"{name}.json").read_text())
        if data["schema"] != SCHEMA:
            raise RecordError(f"{folder / name}.json is {data['schema']!r}.", f"This etascope reads {SCHEMA!r}.")
        tensors = load_file(folder / f"{name}.safetensors")
        frozen = load_file(folder / data["frozen"]) if data["frozen"] else {}
        for own in (tensors, frozen):
            for key in own.keys() & set(data["complex"]):
                own[key] = torch.view_as_complex(own[key])
        for key, stride in data["strides"].items():
            tensors[key] = torch.empty_strided(tensors[key].shape, stride, dtype=tensors[key].dtype).copy_(tensors[key])
        return State(tensors, frozen, from_json(data["plain"]), data["devices"]), data["frozen"]
    except RecordError:
        raise
    except Exception as error:
        raise RecordError(
            f"cannot read the snapshot {folder / name}: {error}", "Rewind to another one, or go on without."
        ) from error


def remove(folder: Path, name: str) -> None:
    """Remove a snapshot's files; what cannot be removed stays."""
    for file in (f"{name}.json", f"{name}.safetensors"):
        with contextlib.suppress(OSError):
            (folder / file).unlink(missing_ok=True)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
