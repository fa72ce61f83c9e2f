"""Two gloo processes train one model with accumulation; prints the lr of every update of rank 0, as JSON.

python two_processes.py [accelerate]
"""

import json
import os
import sys
import tempfile
from pathlib import Path

import torch

import etascope as eta

UPDATES, ACCUMULATE = 6, 4


def build():
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def record(optimizer, used):
    optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))


def plain(rank):
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    model, optimizer = build()
    used = []
    record(optimizer, used)
    handle = eta.attach(eta.linear(), optimizer, horizon=UPDATES)
    ddp = torch.nn.parallel.DistributedDataParallel(model)
    for i in range(UPDATES * ACCUMULATE):
        ddp(torch.full((1, 2), float(rank))).sum().backward()
        if (i + 1) % ACCUMULATE == 0:
            optimizer.step()
            optimizer.zero_grad()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    return used, handle.step


def accelerated(rank):
    from accelerate import Accelerator

    from etascope.integrations.torch import ScheduleLR

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=ACCUMULATE)
    assert accelerator.num_processes == 2
    model, optimizer = build()
    used = []
    record(optimizer, used)
    scheduler = ScheduleLR(optimizer, eta.linear(), horizon=UPDATES)
    data = torch.utils.data.DataLoader(torch.ones(2 * UPDATES * ACCUMULATE, 2), batch_size=1)
    model, optimizer, data, prepared = accelerator.prepare(model, optimizer, data, scheduler)
    for x in data:
        with accelerator.accumulate(model):
            accelerator.backward(model(x).sum())
            optimizer.step()
            prepared.step()  # it steps the scheduler once for each process
            optimizer.zero_grad()
    accelerator.end_training()
    return used, scheduler.last_epoch


def main(rank, how, folder):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    used, step = (accelerated if how == "accelerate" else plain)(rank)
    Path(folder, f"{rank}.json").write_text(json.dumps([used, step]))
    # Not through the interpreter's end: a thread of gloo's that asks for it by then ends the process by SIGABRT.
    os._exit(0)


if __name__ == "__main__":
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[2], ACCELERATE_USE_CPU="true")
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(main, (sys.argv[1], folder), nprocs=2)
        print(json.dumps([json.loads(Path(folder, f"{rank}.json").read_text()) for rank in (0, 1)]))
