"""Each kind of log, as its writer leaves it, and what is wrong with them."""

import json
import math
import sys

import numpy as np
import pytest
from runs import run, watch_lines

from etascope.diagnosis import diagnose, read
from etascope.errors import RecordError
from etascope.records import Curve


def same(a, b):
    assert np.array_equal(a.steps, b.steps) and np.array_equal(a.values, b.values, equal_nan=True)


# ------------------------------------------------------------------------------------ watched runs


def test_a_watched_run_is_read_to_the_bit(tmp_path):
    log = run("diverges")
    (tmp_path / "watch.jsonl").write_text(watch_lines(log))
    found = read(tmp_path / "watch.jsonl")
    for name in ("loss", "lr", "val", "grad"):
        same(getattr(found, name), getattr(log, name))
    assert found.probes == log.probes and found.optimizer == log.optimizer and found.horizon == log.horizon
    assert not found.notes


def test_the_folder_of_a_watched_run_will_do(tmp_path):
    (tmp_path / "run.jsonl").write_text(watch_lines(run()))
    assert len(read(tmp_path).loss) == 400


def test_a_last_line_that_was_cut_off_is_a_note(tmp_path):
    text = watch_lines(run())
    (tmp_path / "watch.jsonl").write_text(text[:-40])
    found = read(tmp_path / "watch.jsonl")
    assert len(found.loss) == 400 and "cut off" in found.notes[0]


def test_of_steps_that_were_made_again_the_later_ones_count(tmp_path):
    log = run(n=100)
    again = {"kind": "steps", "seen": 100, "step": 60, "loss": [7.0] * 10, "lr": [0.1] * 10}
    (tmp_path / "watch.jsonl").write_text(watch_lines(log) + json.dumps(again) + "\n")
    found = read(tmp_path / "watch.jsonl")
    assert found.loss.steps[-1] == 69 and (found.loss.values[60:] == 7.0).all()
    assert any("made again" in note for note in found.notes)


def test_a_newer_schema_is_refused(tmp_path):
    (tmp_path / "watch.jsonl").write_text('{"kind": "header", "schema": "etascope.watch/9"}\n{"kind": "end"}\n')
    with pytest.raises(RecordError, match="watch/9"):
        read(tmp_path / "watch.jsonl")


# ------------------------------------------------------------------------------------ CSV


def test_lightnings_csv_has_sparse_rows(tmp_path):
    rows = ["epoch,lr-AdamW,step,train_loss_epoch,train_loss_step,val_loss"]
    for t in range(0, 100, 10):
        rows.append(f",{1e-3},{t},,,")
        rows.append(f"{t // 50},,{t},,{2 - t / 100},")
        if t % 50 == 40:
            rows.append(f"{t // 50},,{t},,,{1.9 - t / 100}")
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    found = read(tmp_path)
    assert found.loss.steps.tolist() == list(range(0, 100, 10)) and len(found.val) == 2
    assert set(found.lr.values) == {1e-3} and found.optimizer == "AdamW"
    assert found.columns == {
        "step": "step", "loss": "train_loss_step", "val": "val_loss", "lr": "lr-AdamW"
    }  # fmt: skip


def test_kerass_csv_counts_epochs(tmp_path, unjudged):
    rows = ["epoch,accuracy,learning_rate,loss,val_accuracy,val_loss"]
    rows += [f"{e},0.5,0.001,{2 / (1 + e)},0.5,{2.1 / (1 + e)}" for e in range(20)]
    (tmp_path / "log.csv").write_text("\n".join(rows))
    found = read(tmp_path / "log.csv")
    assert len(found.loss) == len(found.val) == 20 and found.lr.values[0] == 1e-3
    assert any("show no noise" in note for note in diagnose(found).notes)


def test_missing_cells_and_text_in_numbers_are_stated(tmp_path, unjudged):
    rows = ["step,loss,lr", "0,2.5,0.1", "1,oops,0.1", "2,,0.1", "3,nan,0.1", "4,1.5,high", "5,inf,0.1", "6,1.2,0.1"]
    rows += [f"{t},1.{t},0.1" for t in range(7, 12)]
    (tmp_path / "log.csv").write_text("\n".join(rows))
    found = read(tmp_path / "log.csv")
    assert found.loss.steps.tolist() == [0, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert math.isnan(found.loss.values[1]) and found.loss.values[3] == math.inf
    said = " / ".join(diagnose(tmp_path / "log.csv").notes)
    assert "'oops' in row 2" in said and "'high' in row 5" in said and "2 of 10 training losses" in said


def test_a_step_that_starts_again_each_epoch_is_not_believed(tmp_path):
    rows = ["batch,loss"] + [f"{t % 10},{2 - t / 100}" for t in range(60)]
    (tmp_path / "log.csv").write_text("\n".join(rows))
    found = read(tmp_path / "log.csv")
    assert found.loss.steps.tolist() == list(range(60)) and "rows are counted" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("step,accuracy\n1,0.5\n2,0.6\n", "no column with the training loss; it has 'step', 'accuracy'"),
        ("step,loss\n", "no rows but its head"),
        ("", "nothing in it"),
        ("step,loss\n1,a\n2,b\n", "'loss' has no number in 2 rows"),
        ("step,loss\n1,2.0\n2,1.9\n", "2 training losses, and at least 5"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, text, said):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(RecordError) as error:
        diagnose(tmp_path / "log.csv")
    assert said in str(error.value) and error.value.next_move


# ------------------------------------------------------------------------------------ JSON


def test_generic_jsonl_with_folders_of_keys(tmp_path):
    lines = [
        {"_step": 5 * i, "train": {"loss": 2.0 - i / 50, "grad_norm": 1.0}, "lr": 1e-3}
        | ({"val/loss": 2.1} if i % 10 == 0 else {})
        for i in range(50)
    ]  # fmt: skip
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"_step": 2')
    found = read(tmp_path / "history.jsonl")
    assert found.loss.steps[-1] == 245 and len(found.grad) == 50 and len(found.val) == 5
    assert "cut off" in found.notes[0]


def test_hugging_faces_trainer_state(tmp_path, unjudged):
    history = [{"epoch": t / 100, "step": t, "loss": 2 - t / 200, "learning_rate": 5e-5, "grad_norm": 1.5}
               for t in range(10, 210, 10)]  # fmt: skip
    history.insert(10, {"epoch": 1.0, "step": 100, "eval_loss": 1.6, "eval_runtime": 3.0})
    history.append({"step": 200, "train_loss": 1.3, "train_runtime": 60.0, "total_flos": 1e9})
    folder = tmp_path / "checkpoint-200"
    folder.mkdir()
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": history, "max_steps": 300}))
    found = read(tmp_path)
    assert len(found.loss) == 20 and found.loss.values[-1] == 1.0 and len(found.val) == 1 and found.horizon == 300
    assert any("step 200 of 300" in note for note in diagnose(found).notes)


def test_a_record_is_refused_by_name_and_a_curve_is_read(tmp_path):
    (tmp_path / "sweep.json").write_text('{"schema": "etascope.sweep/1"}')
    with pytest.raises(RecordError, match="is a record of etascope"):
        read(tmp_path / "sweep.json")
    curve = Curve(
        1e-2, 0, 200, math.inf, 120, 120, tuple((t, 2.0 + t) for t in range(2, 121, 2)), ((0, 2.3), (60, 3.0))
    )
    found = read(curve)
    assert math.isnan(found.loss.values[-1]) and found.horizon == 200 and len(found.val) == 2


def test_paths_that_hold_no_log(tmp_path):
    for path, said in ((tmp_path / "no.csv", "cannot read"), (tmp_path, "it is empty")):
        with pytest.raises(RecordError, match=said):
            read(path)
    (tmp_path / "a.csv").write_text("loss\n1\n")
    (tmp_path / "b.csv").write_text("loss\n1\n")
    with pytest.raises(RecordError, match=r"several logs: a\.csv, b\.csv"):
        read(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)))
    with pytest.raises(RecordError, match="is no text"):
        read(tmp_path / "weights.bin")


# ------------------------------------------------------------------------------------ TensorBoard


def write_events(folder, tags):
    """An event file, by tensorboard's own writer."""
    event_pb2 = pytest.importorskip("tensorboard.compat.proto.event_pb2")
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for tag, points in tags.items():
        for step, value in points:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.add_event(event_pb2.Event(step=step, summary=summary))
    writer.close()


def test_a_tensorboard_folder(tmp_path):
    losses = [(t, 2 - t / 400) for t in range(200)]
    write_events(tmp_path, {"Loss/train": losses, "Loss/val": losses[::20], "lr": [(t, 0.25) for t in range(200)]})
    found = read(tmp_path)
    assert len(found.loss) == 200 and len(found.val) == 10 and set(found.lr.values) == {0.25}
    assert found.columns["loss"] == "Loss/train"
    (file,) = tmp_path.iterdir()
    same(read(file).loss, found.loss)


def test_several_runs_in_one_folder_are_refused(tmp_path):
    for name in ("a", "b"):
        write_events(tmp_path / name, {"loss": [(t, 1.0) for t in range(5)]})
    with pytest.raises(RecordError, match="2 runs: a, b"):
        read(tmp_path)


def test_keras_has_a_folder_for_each_side(tmp_path):
    write_events(tmp_path / "train", {"epoch_loss": [(t, 2.0 - t / 20) for t in range(20)]})
    write_events(tmp_path / "validation", {"epoch_loss": [(t, 2.1) for t in range(20)]})
    found = read(tmp_path)
    assert found.loss.values[1] < 2.0 and set(np.round(found.val.values, 3)) == {2.1}


def test_without_tensorboard_the_line_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    with pytest.raises(RecordError) as error:
        read(tmp_path)
    assert "pip install 'etascope[watch]'" in error.value.next_move
