"""Two gloo processes train one model on digits of their own, watched; prints what each ended with, as JSON.

python two_processes.py plain|accelerate PORT

In the second one's data batches 100 to 102 are noise, in the first one's number 200 holds a NaN.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from training import DIGITS, HORIZON, PIXELS, Training

import etascope as eta


def batches(rank: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Fresh batches of a process."""
    for number in range(2 * HORIZON):
        generator = torch.Generator().manual_seed(2 * number + rank)
        rows = torch.randint(len(PIXELS), (32,), generator=generator)
        x, y = PIXELS[rows], DIGITS[rows]
        if rank == 1 and 100 <= number < 103:
            x = 100 * torch.randn(x.shape, generator=generator)
        if rank == 0 and number == 200:
            x = x.clone().index_fill_(0, torch.tensor([3]), torch.nan)
        yield x, y


def trained(how: str, rank: int) -> dict[str, Any]:
    """A watched training, and what came of it."""
    training = Training(norm=True)
    assert training.handle is not None
    if how == "accelerate":
        from accelerate import Accelerator

        accelerator = Accelerator(cpu=True)
        assert accelerator.num_processes == 2
        model, optimizer = accelerator.prepare(training.model, training.optimizer)
        backward = accelerator.backward
        w: Any = eta.integrations.accelerate.watch(
            accelerator, model, optimizer, schedule=training.handle, act=True, log="run.jsonl"
        )
    else:
        torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
        model, optimizer = torch.nn.parallel.DistributedDataParallel(training.model), training.optimizer
        backward = Tensor.backward
        w = eta.watch(model, optimizer, schedule=training.handle, act=True)
    with w:
        for x, y in w.batches(batches(rank)):
            loss = F.cross_entropy(model(x), y)
            backward(loss)
            w.observe(loss)
            optimizer.step()
            optimizer.zero_grad()
    torch.distributed.barrier()
    said = hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in training.model.parameters())).hexdigest()
    ended = {
        "decisions": [(d.step, d.code, d.action, d.to_step) for d in w.decisions],
        "weights": said,
        "updates": training.handle.step,
        "scale": training.handle.scale,
        "final": training.final(),
        "lines": len(w.log.lines),
    }
    torch.distributed.destroy_process_group()
    return ended


def main(rank: int, how: str, folder: str) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    os.chdir(folder)
    Path(f"{rank}.json").write_text(json.dumps(trained(how, rank)))
    # Not through the interpreter's end: a thread of gloo's that asks for it by then ends the process by SIGABRT.
    os._exit(0)


if __name__ == "__main__":
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[2], ACCELERATE_USE_CPU="true")
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(main, (sys.argv[1], folder), nprocs=2)
        ended = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in (0, 1)]
        print(json.dumps({"ended": ended, "logs": sorted(p.name for p in Path(folder).glob("*.jsonl"))}))
