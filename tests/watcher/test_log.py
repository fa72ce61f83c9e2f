"""The log: what is written is read back to the bit, whatever happens to the disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import etascope as eta
from etascope.errors import RecordError
from etascope.watcher import Log, LogWriter, read_log

number = st.floats(allow_nan=True, allow_infinity=True)
seen = st.tuples(number, st.floats(1e-8, 1), st.none() | number)


def bits(observations: Any) -> list[str]:
    return [repr(tuple(own)) for own in observations]


def write(path: Path | None, observed: list[tuple[float, float, float | None]], **options: Any) -> LogWriter:
    writer = LogWriter(path, {"run": "r"}, **options)
    for i, (loss, lr, grad) in enumerate(observed):
        writer.observe(i, i, loss, lr, grad)
    return writer


@given(st.lists(seen, max_size=150))
def test_a_round_trip_to_the_bit(observed: list[tuple[float, float, float | None]]) -> None:
    log = write(None, observed).log
    text = log.to_text()
    again = Log([json.loads(line) for line in text.splitlines()])
    expected = [repr((i, i, loss, lr, grad)) for i, (loss, lr, grad) in enumerate(observed)]
    assert bits(again.observations()) == bits(log.observations()) == expected
    assert again.to_text() == text


def test_a_file_holds_what_memory_does(tmp_path: Path) -> None:
    observed = [(math.nan if i == 3 else 1.0 / (i + 1), 0.1, None) for i in range(100)]
    writer = write(tmp_path / "deep" / "run.jsonl", observed)
    writer.write("note", {"seen": 99, "step": 99, "code": "ETA004", "said": "flat", "move": "", "numbers": {}})
    writer.close()
    log = read_log(tmp_path / "deep" / "run.jsonl")
    assert bits(log.observations()) == bits(write(None, observed).log.observations())
    assert [note.code for note in log.notes] == ["ETA004"] and log.damaged == ""


@pytest.mark.parametrize("after", [0, 1, 30, 64, 65])
def test_what_comes_after_a_checkpoint_is_cut_off(tmp_path: Path, after: int) -> None:
    path = tmp_path / "run.jsonl"
    writer = write(path, [(1.0, 0.1, None)] * 70)
    writer.flush()  # as a checkpoint does
    lines = writer.count
    for i in range(70, 70 + after):
        writer.observe(i, i, 3.0, 0.1)
    writer.write("val", {"seen": 69, "step": 70, "loss": 1.0})  # of the time after it, though of no later observation
    writer.write("end", {"seen": 70, "step": 70, "why": "over"})
    writer.close()
    writer = LogWriter.go_on(path, lines)
    for i in range(70, 80):
        writer.observe(i, i, 2.0, 0.1)
    writer.close()
    log = read_log(path)
    assert [own.loss for own in log.observations()] == [1.0] * 70 + [2.0] * 10
    assert not any(log.of("end")) and not any(log.of("val")) and writer.count == len(log.lines)


def test_an_old_log_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for i in range(3):
        write(path, [(float(i), 0.1, None)]).close()
    said = {p.name: next(read_log(p).observations()).loss for p in tmp_path.iterdir()}
    assert said == {"run.jsonl": 2.0, "run.1.jsonl": 0.0, "run.2.jsonl": 1.0}


def test_a_sink_that_raises_is_left_out(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []

    def broken(line: dict[str, Any]) -> None:
        raise RuntimeError("no network")

    with pytest.warns(UserWarning, match="no network"):
        writer = write(None, [(1.0, 0.1, None)], sinks=(broken, lines.append))
        writer.flush()
    assert [line["kind"] for line in lines] == ["header", "steps"]


class FullDisk:
    """A file that takes so many lines."""

    def __init__(self, lines: int) -> None:
        self.left, self.written = lines, b""

    def write(self, data: bytes) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")
        self.written += data

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_full_disk_does_not_end_the_training(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 1)
    sgd = torch.optim.SGD(net.parameters(), lr=0.01)
    path = tmp_path / "run.jsonl"
    with eta.watch(net, sgd, horizon=200, log=path) as w:
        for i, x in enumerate(w.batches([torch.ones(4, 2)])):
            if i == 100:
                assert w._log is not None
                w._log._file = FullDisk(1)  # type: ignore[assignment]
            loss = net(x).square().mean()
            loss.backward()
            w.observe(loss)
            sgd.step()
            sgd.zero_grad()
    assert w.step == 200
    assert any("No space left" in fault for fault in w.faults)


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write(path, [(1.0, 0.1, None)] * 200).close()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1], lines[2][:40] + "\n", *lines[3:]]))
    with pytest.raises(RecordError, match=r"line 3 of .* is damaged"):
        read_log(path)


def test_a_last_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    write(path, [(1.0, 0.1, None)] * 200).close()
    whole = len(list(read_log(path).observations()))
    path.write_bytes(path.read_bytes()[:-20])
    log = read_log(path)
    assert "cut off" in log.damaged and 0 < len(list(log.observations())) < whole


@pytest.mark.parametrize("text", ["", "hello\n", '{"kind": "header", "schema": "other/1"}\n', "[]\n", "\x00\xff\n"])
def test_what_is_no_log(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    with pytest.raises(RecordError, match="etascope diagnose"):
        read_log(path)
