"""A worker process: `python -m etascope.engines.worker`, fed by `workers.py` through its standard input.

It is started by a command of its own, not by `multiprocessing`: the user's script is never imported again, so it needs
no `if __name__ == "__main__"`. Standard output carries the answers; what a training prints goes to standard error.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from contextlib import suppress
from typing import Any, BinaryIO


def main() -> None:
    """Answer until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        _serve(inbox, outbox)
    except (EOFError, BrokenPipeError):  # the parent is gone
        os._exit(0)


def _serve(inbox: BinaryIO, outbox: BinaryIO) -> None:
    def send(kind: str, value: Any) -> None:
        outbox.write(pickle.dumps((kind, value)))
        outbox.flush()

    with suppress(Exception):  # before the task comes, for the time that it takes; what fails is told below
        import torch._dynamo  # which torch's optimizers import, and which takes as long as torch itself

        from . import choose  # noqa: F401
    path, payload, device, modes = pickle.load(inbox)
    sys.path[:] = path
    try:
        import torch

        from .choose import rebuild_engine
        from .prepared import Prepared
        from .randomness import set_modes
        from .stack import quiet
        from .trials import STEPS, samples_of, try_out

        torch.set_num_threads(1)
        set_modes(*modes)
        prepared = Prepared(pickle.loads(payload), torch.device(device))
        with suppress(Exception):  # what is loaded at the first step should not count in a trial
            try_out(prepared, [("loop", 1)], samples_of(prepared, (), 0, 1), STEPS, 1, counts=(1,))
    except Exception as error:
        send("failed", f"{type(error).__name__}: {error}")
        return
    send("ready", None)
    engine: Any = None
    while True:
        kind, asked = pickle.load(inbox)
        try:
            if kind == "trial":
                done: Any = try_out(prepared, **asked)
            else:
                ran, unit, steps, rung = asked
                if engine is None or engine.ran != ran:
                    engine = rebuild_engine(prepared, ran)
                with quiet():
                    done = engine.train(unit, steps, rung, lambda *told: send("tick", told))
        except BaseException as error:
            send("raised", _sendable(error))
        else:
            send("done", done)


def _sendable(error: BaseException) -> BaseException:
    """The error itself if it survives pickling, else one that says the same."""
    from ..errors import EtascopeError, TaskError

    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        if isinstance(error, EtascopeError):
            return TaskError(error.cause, error.next_move)
        return TaskError(f"{type(error).__name__}: {error}", "Try it with engine='loop', in one process.")


if __name__ == "__main__":
    main()
