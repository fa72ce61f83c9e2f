"""Several processes at once, each with one thread: for models that one process cannot keep all cores busy with."""

from __future__ import annotations

import math
import os
import pickle
import queue
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from ..errors import EngineError
from ..records import Engine as Ran
from .base import Facts, Setting, Tick, Told, Trained, Unit
from .lanes import Lanes
from .loop import Loop
from .prepared import Prepared
from .randomness import modes

Job: TypeAlias = tuple[str, Any]  # "trial" or "train", and what it is of

__all__ = ["Ahead", "Pool", "Workers", "cores", "sendable"]

PAYLOAD_BYTES = 2**30  # a task larger than this is not copied into every process
GONE = (EOFError, OSError, pickle.UnpicklingError)  # how it shows that a process died, the last in mid-answer
DYING_S = 5  # seconds that a process has to end once its answers have
NEXT_MOVE = "Use engine='loop' or engine='lanes', which train in this process."


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sendable(prepared: Prepared, settings: Sequence[Setting] = ()) -> bytes | str:
    """The task as bytes for another process, or why it, or a setting with a function in it, cannot be sent."""
    import cloudpickle

    try:
        cloudpickle.dumps(settings)
        payload: bytes = cloudpickle.dumps(prepared.task)
    except Exception as error:
        return f"the task cannot be sent to another process ({type(error).__name__}: {str(error).splitlines()[0]})"
    if len(payload) > PAYLOAD_BYTES:
        return f"the task is {len(payload) / 2**30:.1f} GiB, too much to be copied into every process"
    return payload


class Ahead:
    """Processes that import torch before anyone knows whether they will be needed; at the end, who was not is ended.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        with suppress(OSError):  # none can be had; who needs them will say so
            for _ in range(count):
                self._processes.append(_start())

    def take(self) -> subprocess.Popen[bytes] | None:
        """One of them, for good, while there are any."""
        return self._processes.pop() if self._processes else None

    def close(self) -> None:
        """End those that nobody took."""
        _end(self._processes)
        self._processes.clear()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start() -> subprocess.Popen[bytes]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-m", "etascope.engines.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        start_new_session=True,  # Ctrl-C is for this process, which ends the others
    )


class Pool:
    """Worker processes beside this one, each with the task.

    Args:
        payload: what `sendable` gave.
        device: where they train.
        count: how many.
        ahead: processes that were started already.
    """

    def __init__(self, payload: bytes, device: str, count: int, ahead: Ahead | None = None) -> None:
        self._hello = pickle.dumps((list(sys.path), payload, device, modes()))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._closed = False
        self._changing = threading.Lock()
        weakref.finalize(self, _end, self._processes)
        for _ in range(count):
            self._processes.append((ahead and ahead.take()) or self._started())
        # Not here, since it would wait: a process reads what does not fit into a pipe when it has imported torch.
        self._greeting = threading.Thread(target=self._send_hello, daemon=True)
        self._greeting.start()

    def _started(self) -> subprocess.Popen[bytes]:
        return _start()

    def _send_hello(self) -> None:
        for process in self._processes:
            with suppress(OSError, ValueError):  # it has died, or was closed meanwhile
                self._write(process, self._hello)

    def greet(self) -> str | None:
        """Wait until every process has the task; why one cannot take it, or None."""
        self._greeting.join()
        for process in self._processes:
            try:
                kind, value = self._read(process)
            except GONE:
                return f"a worker process ended at once, with exit code {_exit_code(process)}"
            if kind != "ready":
                return f"a worker process cannot take the task ({value})"
        return None

    def __len__(self) -> int:
        return len(self._processes)

    def ask(
        self, jobs: Sequence[Job], tick: Tick, here: Callable[[Job, Tick], Any] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Have each job done by whichever process is free; (index, answer) as they come.

        A process that dies is started again, and its job is done once more; if it dies of it again, that is an error.
        Errors are raised once the jobs under way are finished, so that these are not lost.

        Args:
            jobs: what is to be done.
            tick: progress.
            here: does a job in this process, which then is one of them; answers that come meanwhile follow its own.

        Raises:
            EngineError: a job ended two processes.
            BaseException: what a job raised.
        """
        asked = _Asked(jobs, tick)
        mine = None if here is None else asked.todo.popleft()
        for number in range(min(len(self), len(asked.todo))):
            threading.Thread(target=self._feed, args=(number, asked), daemon=True).start()
        while asked.is_waiting:
            try:
                if here is None or mine is None:
                    asked.listen(wait=True)
                else:
                    asked.answers.append((mine, here(jobs[mine], asked.tell)))
            except KeyboardInterrupt:
                asked.failed.set()
                asked.listen(wait=False)
                yield from asked.answers  # what is done is done
                raise
            except Exception as error:
                asked.fail(error, mine)
            yield from asked.new_answers()
            mine = None
            with suppress(IndexError):
                mine = None if here is None else asked.todo.popleft()
        if asked.errors:
            raise asked.errors[0]

    def _feed(self, number: int, asked: _Asked) -> None:
        """Have one process do jobs until there are none, in a thread of its own."""
        while not (self._closed or asked.failed.is_set()):
            try:
                i = asked.todo.popleft()
            except IndexError:
                return
            try:
                kind, value = self._do(number, asked.data[i], partial(asked.told, i))
            except BaseException as error:  # or it would be waited for forever
                kind, value = "raised", error
            if kind != "done":
                asked.failed.set()
            asked.said.put((kind, i, value))

    def _do(self, number: int, data: bytes, tick: Tick) -> tuple[str, Any]:
        """How a job ended, and its answer, error or exit code."""
        code = 0
        for _ in range(2):
            told = Told(tick)
            try:
                process = self._living(number)
                self._write(process, data)
                while (answer := self._read(process))[0] == "tick":
                    told(*answer[1])
                return answer
            except GONE:
                told.take_back()
                code = _exit_code(self._processes[number])
        return "ended", code

    def _living(self, number: int) -> subprocess.Popen[bytes]:
        """A process, started again if it has ended."""
        process = self._processes[number]
        if process.poll() is None:
            return process
        with self._changing:
            if self._closed:
                raise EOFError
            _end([process])
            self._processes[number] = again = self._started()
        self._write(again, self._hello)
        self._read(again)
        return again

    def _write(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        assert process.stdin is not None
        process.stdin.write(data)
        process.stdin.flush()

    def _read(self, process: subprocess.Popen[bytes]) -> tuple[str, Any]:
        assert process.stdout is not None
        answer: tuple[str, Any] = pickle.load(process.stdout)
        return answer

    def close(self) -> None:
        """End all processes, at once."""
        with self._changing:
            self._closed = True
            _end(self._processes)


class _Asked:
    """Jobs that a pool was asked to do, and what has come of them.

    Attributes:
        data: the jobs as they are sent.
        todo: the numbers of those that nobody has begun.
        said: what the processes' threads say: (kind, number, value).
        answers: (number, answer) that were not given out yet.
        errors: what went wrong; then no further job is begun.
        failed: set as soon as that is known.
    """

    def __init__(self, jobs: Sequence[Job], tick: Tick) -> None:
        import cloudpickle

        self._jobs, self._tick = jobs, tick
        self.data = [cloudpickle.dumps(job) for job in jobs]  # settings may hold a schedule, and this a function
        self.todo = deque(range(len(jobs)))
        self.said = queue.SimpleQueue[tuple[str, int, Any]]()
        self.answers = deque[tuple[int, Any]]()
        self.errors: list[BaseException] = []
        self.failed = threading.Event()
        self._ended = 0  # jobs that were answered or given up

    @property
    def is_waiting(self) -> bool:
        """Whether some jobs are neither answered nor given up."""
        return self._ended < len(self._jobs)

    def new_answers(self) -> Iterator[tuple[int, Any]]:
        """The answers that were not given out yet."""
        while self.answers:
            self._ended += 1
            yield self.answers.popleft()

    def told(self, i: int, *new: int) -> None:
        """A process makes progress with job i."""
        self.said.put(("tick", i, new))

    def tell(self, *new: int) -> None:
        """This process makes progress; meanwhile others may have."""
        self._tick(*new)
        self.listen(wait=False)

    def listen(self, *, wait: bool) -> None:
        """Take in what was said; with `wait`, at least one thing."""
        with suppress(queue.Empty):
            while True:
                kind, i, value = self.said.get(block=wait)
                wait = False
                if kind == "tick":
                    self._tick(*value)
                elif kind == "done":
                    self.answers.append((i, value))
                else:
                    self.fail(value if kind == "raised" else _ended_twice(self._jobs[i], value), i)

    def fail(self, error: BaseException, i: int | None) -> None:
        """Give up job i, if it is one, and all that nobody has begun."""
        self.failed.set()
        self.errors.append(error)
        self._ended += i is not None
        with suppress(IndexError):
            while True:
                self.todo.pop()
                self._ended += 1


def _ended_twice(job: Job, code: int) -> EngineError:
    kind, asked = job
    at = f"a {kind}"
    if kind == "train":
        _, unit, steps, _ = asked
        lanes = ", ".join(f"{s}, seed {s.seed}" for s in unit[:3]) + (" …" if len(unit) > 3 else "")
        at = f"{lanes}, of {steps} steps"
    return EngineError(
        f"a worker process ended twice, with exit code {code}, at {at}.",
        f"It may have run out of memory. {NEXT_MOVE}",
    )


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process whose answers have ended; it is killed if it goes on without them."""
    try:
        return process.wait(DYING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()


class Workers:
    """Trains units in several processes, this one among them: in each the loop or lanes, as `ran.engine` says.

    Args:
        prepared: the checked task.
        ran: what the record says; `ran.workers` processes in all.
        pool: started ones; default: they are started when there is something to train. Where the task cannot be sent,
            all is trained in this process, to the same results.
    """

    def __init__(self, prepared: Prepared, ran: Ran, pool: Pool | None = None) -> None:
        self.prepared, self.ran = prepared, ran
        self._pool, self._others = pool, ran.workers - 1
        self._alone = False  # once others could not be had
        inner = replace(ran, workers=1)
        self._inner = Lanes(prepared, inner) if ran.engine == "lanes" else Loop(prepared, inner)

    def under(self, ran: Ran) -> Workers:
        """The same processes, to train otherwise."""
        return Workers(self.prepared, ran, self._pool)

    def facts(self, seed: int) -> Facts:
        """What the record should say of the task."""
        return self.prepared.facts(seed)

    def units(self, settings: Sequence[Setting]) -> list[list[Setting]]:
        """As the engine inside has them, but enough for every process to have one."""
        share = max(1, math.ceil(len(settings) / self.ran.workers))
        if self.ran.engine == "lanes" and share < self.ran.chunk:
            return Lanes(self.prepared, replace(self.ran, chunk=share)).units(settings)
        return self._inner.units(settings)

    def train(self, unit: Unit, steps: int, rung: int, tick: Tick) -> Trained:
        """Train one unit in this process."""
        return self._inner.train(unit, steps, rung, tick)

    def train_each(self, units: Sequence[Unit], steps: int, rung: int, tick: Tick) -> Iterator[tuple[int, Trained]]:
        """Train units side by side; (index, result) as they are finished."""
        if len(units) < 2 or (pool := self._started(units)) is None:
            yield from self._inner.train_each(units, steps, rung, tick)
            return
        inner = replace(self.ran, workers=1)

        def here(job: Job, tick: Tick) -> Trained:
            return self._inner.train(job[1][1], steps, rung, tick)

        yield from pool.ask([("train", (inner, unit, steps, rung)) for unit in units], tick, here)

    def _started(self, units: Sequence[Unit] = ()) -> Pool | None:
        if self._pool is None and not self._alone:
            payload = sendable(self.prepared, [s for unit in units for s in unit])
            with suppress(OSError):  # no process can be had
                if isinstance(payload, bytes):
                    self._pool = Pool(payload, str(self.prepared.device), self._others)
            if self._pool is not None and self._pool.greet() is not None:
                self.close()
            self._alone = self._pool is None
        return self._pool

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
