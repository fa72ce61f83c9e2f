"""What `lanes.py` times, each in a process of its own: plain torch as one would write it, the same compiled, a sweep.

    python benchmarks/contenders.py '{"what": "loop", "task": "digits", ...}'     # as lanes.py starts it

The plain loop knows nothing of etascope but the task's pieces. It is faster than most are: the batches of one pass
through the data are read once and held, nothing is logged, the loss is looked at every 64 steps only, and denormal
numbers are flushed, as etascope does.
"""

import itertools
import json
import statistics
import sys
import time
from dataclasses import replace

import torch
from lane_tasks import lane_task
from torch import nn

HELD = True  # False reads the DataLoader anew in every pass, as most scripts do: a weaker baseline
LOOK = 64  # steps between two looks at whether the loss is finite
PACE_S, PACES = 0.15, 5  # seconds that a step's pace is taken over, at least, and how often it is


class Loss(nn.Module):
    """Model and loss as one module, so that `torch.compile` gets both."""

    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch):
        return self.loss(self.model, batch)


class Plain:
    """A task to be trained in plain torch, on some device, from the same initial weights every time.

    Args:
        task: what to train.
        device: where.
        compiled: whether model and loss are compiled, once for all settings.
    """

    def __init__(self, task, device, compiled):
        if task.accumulate != 1 or task.precision != "fp32" or task.evaluate is not None or task.clip_value is not None:
            raise SystemExit(f"{task.name}: the plain loop knows no accumulation, mixed precision or own metric")
        self.task, self.device = task, device
        torch.manual_seed(0)
        self.model = task.model().to(device)
        self.at_init = {name: t.detach().clone() for name, t in self._tensors()}
        self.loss = Loss(self.model, task.loss)
        self.compiled = torch.compile(self.loss) if compiled else self.loss
        self.val = [self._moved(batch) for batch in task.val]
        self.held = self.read() if HELD else None

    def _tensors(self):
        return [*self.model.named_parameters(), *self.model.named_buffers()]

    def _moved(self, batch):
        return [t.to(self.device) for t in batch]

    def read(self):
        return [self._moved(batch) for batch in self.task.train]

    def batches(self):
        while True:
            yield from self.held or map(self._moved, self.task.train)

    def start(self, lr):
        """The model as it was at first, and an optimizer at peak `lr`."""
        with torch.no_grad():
            for name, tensor in self._tensors():
                tensor.copy_(self.at_init[name])
        self.model.train()
        params = [q for q in self.model.parameters() if q.requires_grad]
        return self.task.optimizer(self.task.params(self.model) if self.task.params else params, lr)

    def step(self, optimizer, batch):
        optimizer.zero_grad()
        loss = self.compiled(batch)
        loss.backward()
        if self.task.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.task.clip_norm)
        optimizer.step()
        return loss

    def evaluate(self, which):
        self.model.eval()
        with torch.no_grad():  # not compiled: a handful of passes would not pay for two more compilations
            losses = [(self.loss(self.val[i]).item(), len(self.val[i][0])) for i in which]
        self.model.train()
        return sum(loss * rows for loss, rows in losses) / sum(rows for _, rows in losses)

    def train(self, lr, multipliers, evaluations, final):
        """The final loss of one setting: the mean of its evaluations after the steps `final`; inf if it diverged."""
        optimizer, values = self.start(lr), {}
        peaks = [(group, group["lr"]) for group in optimizer.param_groups]
        for t, (multiplier, batch) in enumerate(zip(multipliers, self.batches(), strict=False), 1):
            for group, peak in peaks:
                group["lr"] = peak * multiplier
            loss = self.step(optimizer, batch)
            if t % LOOK == 0 and not torch.isfinite(loss):
                return float("inf")
            if t in evaluations:
                values[t] = self.evaluate(evaluations[t])
        return statistics.fmean(values[t] for t in final)


def loop(asked, task):
    """The final losses of one setting after the other."""
    plain = Plain(task, asked["device"], "compiled" in asked["what"])
    multipliers = task.bound_schedule.multipliers().tolist()
    evaluations = {int(t): which for t, which in asked["evaluations"].items()}
    return {"losses": [plain.train(lr, multipliers, evaluations, asked["final"]) for lr in asked["lrs"]]}


def etascope(asked, task):
    """The final losses by a sweep, and the engine that it took."""
    import etascope as eta

    try:
        record = eta.sweep(task, lrs=asked["lrs"], engine="auto", device=asked["device"], progress=False)
    except eta.NoAnswer as error:  # all ended above the loss at init: trained they are, all the same
        record = error.record
    curves = sorted(record.rungs[0].curves, key=lambda curve: curve.lr)
    ran = record.engine
    return {
        "losses": [curve.loss if curve.ended is None else curve.ended for curve in curves],
        "engine": {k: getattr(ran, k) for k in ("engine", "workers", "threads", "chunk", "why")},
    }


def loop_pace(asked, task):
    """Seconds of a step of K settings, data in memory, and its floating point operations.

    These are what torch's counter knows: matrix products, convolutions, attention, but no fused LSTM.
    """
    from torch.utils.flop_counter import FlopCounterMode

    plain = Plain(task, asked["device"], "compiled" in asked["what"])
    optimizer, read = plain.start(1e-4), plain.held or plain.read()
    with FlopCounterMode(display=False) as flop:
        plain.loss(read[0]).backward()
    for batch in [read[0], read[-1]] * 2:  # the last may be smaller, which compiles again
        plain.step(optimizer, batch)
    batches = itertools.cycle(read)

    def whole(steps):
        start = now(asked)
        for _ in range(steps):
            plain.step(optimizer, next(batches))
        return now(asked) - start

    return {"seconds": pace(whole) * len(asked["lrs"]), "flop": flop.get_total_flops() * len(asked["lrs"])}


def lanes_pace(asked, task):
    """Seconds of a step of K settings as lanes, data in memory."""
    from etascope.engines import Lanes, Prepared, Setting
    from etascope.records import Engine

    prepared = Prepared(replace(task, val=None), torch.device(asked["device"]))
    ran = Engine("lanes", asked["chunk"], torch.get_num_threads(), asked["device"], compile_from=int(asked["compiled"]))
    lanes = Lanes(prepared, ran)
    units = lanes.units([Setting(0, lr) for lr in asked["lrs"]])

    def whole(steps):
        start = now(asked)
        for unit in units:
            lanes.train(unit, steps, 0, lambda *_: None)
        return now(asked) - start

    return {"seconds": pace(whole)}


def pace(whole):
    """Seconds of a step by `whole(steps)`, once all who are measured together are warm.

    A training's start is taken off: it is in the time of n steps and in that of 2n. The least of several times is the
    surest.
    """

    def difference(times):
        once_s, twice_s = zip(*((whole(steps), whole(2 * steps)) for _ in range(times)), strict=True)
        return min(twice_s) - min(once_s)

    steps = 2
    while difference(2) < PACE_S:  # two, since the first reads the data
        steps *= 2
    print("ready", flush=True)
    sys.stdin.readline()
    return difference(PACES) / steps


def now(asked):
    if asked["device"] != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


WHAT = {
    "loop": loop,
    "compiled loop": loop,
    "etascope": etascope,
    "pace of loop": loop_pace,
    "pace of compiled loop": loop_pace,
    "pace of lanes": lanes_pace,
}


def main():
    asked = json.loads(sys.argv[1])
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    torch.set_flush_denormal(True)
    task = lane_task(asked["task"])
    if "horizon" in asked:
        task = replace(task, horizon=asked["horizon"])
    print(json.dumps(WHAT[asked["what"]](asked, task)))


if __name__ == "__main__":
    main()
