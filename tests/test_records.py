"""Records: strict JSON there and back, clear errors, whole files or none, and what they say."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etascope import records
from etascope.errors import RecordError
from etascope.records import (
    Curve,
    Engine,
    Evidence,
    Finding,
    Predicted,
    Rung,
    Sweep,
    Unanswered,
    Verdict,
    load,
)
from etascope.storage import write_atomically

INF = math.inf
SHARED: dict[str, Any] = {
    "task": "digits — η",
    "horizon": 100,
    "seed": 3,
    "init_loss": 2.0,
    "optimizer": "AdamW(betas=(0.9, 0.95))",
    "groups": 2,
    "schedule": {"kind": "cosine", "to": 0.1},
    "multipliers": ((0, 1.0), (99, 0.1)),
    "judged": "the validation loss after the last step",
    "validation": "64 of 640 examples",
    "engine": Engine("lanes", 32, 1, "cpu", "2.0× the loop, measured"),
    "cost": 0.93,
    "eval_s": 1.5,
    "wall_s": 12.25,
    "versions": {"etascope": "0.1.0"},
    "notes": ("a note",),
    "paste": "optimizer = torch.optim.AdamW(model.parameters(), lr={lr})",
}


def curve(lr: float, loss: float, seed: int = 0, steps: int = 100) -> Curve:
    died = None if math.isfinite(loss) else 7
    val = ((0, 2.0), *(((steps, loss),) if died is None else ()))
    return Curve(lr, seed, steps, loss, died, steps if died is None else 8, ((steps // 2, 1.7),), val)


def sweep(table: dict[float, list[float]], **changes: Any) -> Sweep:
    curves = tuple(curve(lr, loss, seed) for lr, row in table.items() for seed, loss in enumerate(row))
    return Sweep(**(SHARED | {"rungs": (Rung(100, curves),)} | changes))


def finding(**changes: Any) -> Finding:
    own = {
        "rungs": (
            Rung(25, (curve(0.01, 1.2, steps=25), curve(1.0, INF, steps=25))),
            Rung(100, (curve(0.01, 0.9),)),
        ),
        "lr": 0.01,
        "interval": (0.005, 0.02),
        "zone": (0.004, 0.03),
        "edge": 0.5,
        "loss": 1.0,
        "mine": Verdict(1.0, "diverges", INF, INF, "1 diverges"),
        "budget": 1.0,
        "drift": -0.25,
        "noise": 0.01,
        "predicted": Predicted(
            (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
            (1.9, 1.5, 1.0, 1.3, INF),
            (1.8, 1.4, 0.9, 1.2, 1.5),
            (2.0, 1.6, 1.1, 1.4, INF),
        ),
    }
    return Finding(**(SHARED | own | changes))


def unanswered() -> Unanswered:
    return Unanswered(**SHARED, rungs=(Rung(10, (curve(0.1, INF),)),), reason="everything diverges", budget=0.5)


RECORDS: dict[str, Evidence] = {
    "sweep": sweep({0.1: [1.0, 1.1], 1.0: [INF, 1.5]}),
    "finding": finding(),
    "finding without": finding(edge=None, mine=None, init_loss=None, rungs=(), complete=False),
    "unanswered": unanswered(),
}


def constants(text: str) -> list[str]:
    seen: list[str] = []
    json.loads(text, parse_constant=seen.append)
    return seen


class TestRoundTrip:
    @pytest.mark.parametrize("kind", RECORDS)
    def test_through_a_file(self, kind: str, tmp_path: Path) -> None:
        record, path = RECORDS[kind], tmp_path / "a" / "record.json"
        record.save(path)
        assert load(path) == record
        assert type(record).load(path) == record
        text = path.read_text(encoding="utf-8")
        assert constants(text) == []  # no NaN, no Infinity
        assert json.loads(text) == record.to_json()

    def test_a_run_directory(self, tmp_path: Path) -> None:
        RECORDS["sweep"].save(tmp_path / "sweep.json")
        assert load(tmp_path) == RECORDS["sweep"]
        RECORDS["finding"].save(tmp_path / "finding.json")
        assert load(tmp_path) == RECORDS["finding"]

    def test_diverged_is_null(self) -> None:
        data = finding().to_json()
        rung = data["rungs"][0]
        assert rung["losses"] == [[1.2], [None]]
        assert [c["loss"] for c in rung["curves"]] == [1.2, None]
        assert data["mine"]["loss"] is None
        assert data["predicted"]["loss"][-1] is None

    def test_what_was_not_trained_is_null_in_the_table(self) -> None:
        rung = Rung(5, (curve(0.1, 1.0, seed=0), curve(0.2, 1.5, seed=1)))
        assert rung.to_json()["losses"] == [[1.0, None], [None, 1.5]]
        assert np.isnan(rung.losses[0, 1])

    def test_the_contract_of_keys(self) -> None:
        contract = "schema task lr interval zone edge loss cost eval_s wall_s horizon seed engine mine rungs"
        data = finding(edge=None, mine=None).to_json()
        assert {*contract.split(), "versions"} <= data.keys()
        assert {"steps", "lrs", "seeds", "losses", "curves"} <= data["rungs"][0].keys()
        assert (data["edge"], data["mine"], data["lr"]) == (None, None, 0.01)
        assert {"engine", "chunk", "threads"} <= data["engine"].keys()
        data = unanswered().to_json()
        assert {*contract.split(), "versions"} <= data.keys()
        assert [data[key] for key in ("lr", "interval", "zone", "edge", "loss", "mine")] == 6 * [None]

    def test_numpys_numbers_are_numbers(self) -> None:
        record = finding(lr=np.float64(0.02), zone=tuple(np.array([0.01, 0.03])))
        assert json.loads(json.dumps(record.to_json(), allow_nan=False))["zone"] == [0.01, 0.03]

    losses = st.floats(allow_nan=False, allow_infinity=False)
    points = st.lists(st.tuples(st.integers(0, 10**6), losses), max_size=4).map(tuple)
    sizes = st.lists(st.tuples(st.integers(1, 10**6), losses, losses, losses), min_size=1, max_size=2).map(tuple)

    @given(
        st.builds(
            Curve,
            lr=st.floats(1e-12, 1e6),
            seed=st.integers(0, 2**31),
            steps=st.integers(1, 10**7),
            loss=st.one_of(losses, st.just(INF)),
            diverged_at=st.one_of(st.none(), st.integers(0, 100)),
            trained=st.integers(0, 100),
            train=points,
            val=points,
            effective_lr=st.dictionaries(st.text(max_size=3), sizes, max_size=2),
        )
    )
    def test_any_curve_to_the_bit(self, one: Curve) -> None:
        text = json.dumps(one.to_json(), allow_nan=False)
        assert Curve.from_json(json.loads(text)) == one
        rung = Rung(one.steps, (one, replace(one, lr=2 * one.lr)))
        assert Rung.from_json(json.loads(json.dumps(rung.to_json(), allow_nan=False))) == rung

    def test_an_unknown_regret_stays_unknown(self) -> None:
        record = finding(init_loss=None)
        for lr, known in ((1e-3, math.isnan), (0.6, math.isinf)):  # too low, and beyond the edge
            back = Finding.from_json(replace(record, mine=record.judge(lr)).to_json())
            assert back.mine is not None
            assert known(back.mine.regret)

    def test_step_sizes_are_left_out_where_there_are_none(self) -> None:
        plain = curve(0.1, 1.0)
        assert "effective_lr" not in plain.to_json()  # as in older records, which `load` reads too
        noted = replace(plain, effective_lr={"0": ((1, 0.1, 0.2, 0.3), (100, 0.01, 0.02, 0.03))})
        assert noted.to_json()["effective_lr"] == {"0": [[1, 0.1, 0.2, 0.3], [100, 0.01, 0.02, 0.03]]}
        assert Curve.from_json(plain.to_json()) == plain and Curve.from_json(noted.to_json()) == noted

    def test_fields_of_a_newer_minor_version_are_passed_over(self) -> None:
        assert Finding.from_json(finding().to_json() | {"new": [1, 2]}) == finding()


class TestLoadErrors:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match="cannot read"):
            load(tmp_path / "nothing.json")
        with pytest.raises(RecordError, match=r"no finding\.json or sweep\.json"):
            load(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"schema": "etascope.finding/1", "lr"'])
    def test_not_json(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "finding.json").write_bytes(content)
        with pytest.raises(RecordError, match="damaged"):
            load(tmp_path)

    @pytest.mark.parametrize(
        "content", ["3", "[]", "null", "{}", '{"schema": "other/1"}', '{"schema": "etascope.finding/99"}']
    )
    def test_foreign(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "finding.json").write_text(content)
        with pytest.raises(RecordError, match="not a record of etascope") as raised:
            load(tmp_path / "finding.json")
        assert raised.value.next_move

    @pytest.mark.parametrize("key", ["rungs", "engine", "predicted", "mine", "multipliers"])
    @pytest.mark.parametrize(
        "value", [3, "text", [3], ["a"], {"a": 1}, [{"steps": 1, "curves": [1]}], [{"curves": []}]]
    )
    def test_damaged_inside(self, key: str, value: Any, tmp_path: Path) -> None:
        (tmp_path / "finding.json").write_text(json.dumps(finding().to_json() | {key: value}))
        with pytest.raises(RecordError, match="damaged"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("lr", "abc"),
            ("lr", -1),
            ("lr", 1e300),
            ("lr", True),
            pytest.param("lr", 10**400, id="lr-too large"),
            ("zone", None),
            ("zone", [1]),
            ("zone", [-1, 1]),
            ("horizon", "q"),
            ("horizon", 2.5),
            ("wall_s", None),
            ("drift", None),
            ("schedule", 5),
            ("versions", []),
            ("versions", {"torch": 2}),
            ("rungs", {}),
            ("notes", "text"),
            ("complete", 1),
        ],
    )
    def test_a_wrong_type_is_named_with_its_file(self, key: str, value: Any, tmp_path: Path) -> None:
        (tmp_path / "finding.json").write_text(json.dumps(finding().to_json() | {key: value}))
        with pytest.raises(RecordError, match=rf"finding\.json: the .* record is damaged: {key}"):
            load(tmp_path)

    def test_a_wrong_type_deep_inside_is_named(self, tmp_path: Path) -> None:
        data = finding().to_json()
        data["rungs"][0]["curves"][1]["lr"] = "x"
        (tmp_path / "finding.json").write_text(json.dumps(data))
        with pytest.raises(RecordError, match=r"rungs\[0\]\.curves\[1\]\.lr is 'x', not a number"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("sizes", "where"),
        [
            ([], " is [], not an object"),
            ({"head": [[1, 0.1, 0.2]]}, ".head[0] is [1, 0.1, 0.2], not a list of 4"),
            ({"head": [[1, 0.1, 0.2, None]]}, ".head[0][3] is None, not a number"),
            ({"head": [[0.5, 0.1, 0.2, 0.3]]}, ".head[0][0] is 0.5, not a whole number"),
        ],
    )
    def test_step_sizes_are_read_strictly(self, sizes: Any, where: str) -> None:
        data = finding().to_json()
        data["rungs"][0]["curves"][1]["effective_lr"] = sizes
        with pytest.raises(RecordError, match=r"rungs\[0\]\.curves\[1\]\.effective_lr" + re.escape(where)):
            Finding.from_json(data)

    @pytest.mark.parametrize("key", ["rungs", "engine", "predicted", "zone", "horizon"])
    def test_a_missing_key(self, key: str, tmp_path: Path) -> None:
        data = finding().to_json()
        del data[key]
        (tmp_path / "finding.json").write_text(json.dumps(data))
        with pytest.raises(RecordError, match="damaged"):
            load(tmp_path)

    def test_of_another_kind(self, tmp_path: Path) -> None:
        RECORDS["sweep"].save(tmp_path / "record.json")
        with pytest.raises(RecordError, match="holds a Sweep, not a Finding"):
            Finding.load(tmp_path / "record.json")
        with pytest.raises(RecordError, match=r"not a 'etascope\.finding/1' record"):
            Finding.from_json(RECORDS["sweep"].to_json())


class TestWriting:
    def test_the_old_file_stays_when_the_disk_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "finding.json"
        write_atomically(path, "old")

        def full(fd: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(records.evidence.os, "fsync", full)
        with pytest.raises(RecordError, match="No space left on device") as raised:
            write_atomically(path, "new")
        assert isinstance(raised.value.__cause__, OSError)
        assert "Free some space" in raised.value.next_move
        assert "--out" not in raised.value.next_move  # finding.save(path) knows no such option
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["finding.json"]

    @pytest.mark.parametrize("error", [OSError(13, "Permission denied"), KeyboardInterrupt()])
    def test_the_old_file_stays_when_the_renaming_fails(
        self, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "finding.json"
        write_atomically(path, b"old")

        def refuse(self: Path, target: Path) -> Path:
            raise error

        monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(RecordError if isinstance(error, OSError) else KeyboardInterrupt):
            write_atomically(path, b"new")
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["finding.json"]

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("I am no folder")
        with pytest.raises(RecordError, match=r"cannot write .*finding\.json: .*/file is a file, not a folder"):
            write_atomically(tmp_path / "file" / "finding.json", "new")
        with pytest.raises(RecordError, match="cannot write"):
            write_atomically("/proc/no-such-folder/finding.json", "new")

    def test_a_read_only_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def read_only(self: Path, *args: Any, **kwargs: Any) -> Any:
            raise OSError(30, "Read-only file system")  # for root, too, who may write anywhere else

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", read_only)
            patch.setattr(Path, "unlink", read_only)
            with pytest.raises(RecordError, match="Read-only file system"):
                write_atomically(tmp_path / "finding.json", "new")
        assert list(tmp_path.iterdir()) == []

    def test_a_record_that_cannot_be_encoded_leaves_the_old_one(self, tmp_path: Path) -> None:
        path = tmp_path / "finding.json"
        finding().save(path)
        with pytest.raises(TypeError):
            finding(schedule={"foreign": object()}).save(path)
        assert load(path) == finding()


class TestSweep:
    # log10 lr    -3    -2    -1     0     1       init 2.0, best 1.0 at 0.1: 2% of the drop is 0.02
    TABLE = {1e-3: [1.5], 1e-2: [1.04], 1e-1: [1.0], 1.0: [1.2], 10.0: [INF]}  # noqa: RUF012

    def test_best_tolerance_edge(self) -> None:
        s = sweep(self.TABLE)
        assert s.best == (0.1, 1.0)
        assert s.tolerance == pytest.approx(0.02)
        assert s.edge == 10.0
        assert s.lrs.tolist() == sorted(self.TABLE)
        assert s.losses.shape == (5, 1)

    def test_zone_ends_where_the_interpolated_loss_leaves_it(self) -> None:
        zone = sweep(self.TABLE).zone
        assert zone is not None
        assert np.log10(zone) == pytest.approx([-1.5, -0.9])  # halfway to 1.04, a tenth of the way to 1.2

    def test_one_seed_deviation_may_set_the_tolerance(self) -> None:
        s = sweep({0.1: [0.9, 1.1], 1.0: [1.1, 1.14], 10.0: [1.5, 1.5]})
        assert s.tolerance == pytest.approx(math.sqrt(0.02))
        assert s.best[1] == pytest.approx(1.0)
        zone = s.zone
        assert zone is not None
        assert zone[0] == pytest.approx(0.1)
        assert 1.0 < zone[1] < 10.0

    def test_a_setting_that_diverges_for_one_seed_is_out(self) -> None:
        s = sweep({0.1: [1.0, 1.0], 1.0: [0.5, INF], 10.0: [1.2, 1.3], 100.0: [1.3, INF]})
        assert s.best == (0.1, 1.0)
        assert s.edge == 100.0
        assert s.zone == pytest.approx((0.1, 0.1))  # it does not reach into a divergence

    def test_no_edge(self) -> None:
        assert sweep({0.1: [1.0], 1.0: [INF], 10.0: [1.5]}).edge is None

    def test_all_diverged(self) -> None:
        s = sweep({0.1: [INF], 1.0: [INF]})
        assert s.zone is None
        assert s.edge == 0.1

    def test_regret(self) -> None:
        s = sweep(self.TABLE)
        assert s.regret(0.1) == 0.0
        assert s.regret(1e-3) == pytest.approx(0.5)
        assert s.regret(10**-0.5) == pytest.approx(0.1)  # halfway, in log lr
        assert s.regret(10.0) == s.regret(5.0) == s.regret(1e-4) == INF
        assert math.isnan(sweep(self.TABLE, init_loss=None).regret(0.1))

    def test_one_lr(self) -> None:
        s = sweep({0.1: [1.0]})
        assert s.best == (0.1, 1.0)
        assert s.zone == pytest.approx((0.1, 0.1))
        assert s.mean_loss(0.1) == 1.0
        assert s.mean_loss(0.2) == INF

    @given(st.lists(st.one_of(st.floats(0.5, 1.9), st.just(INF)), min_size=2, max_size=9))
    def test_laws(self, losses: list[float]) -> None:
        s = sweep({10.0**-k: [loss] for k, loss in enumerate(losses)})
        if not np.isfinite(losses).any():
            assert s.zone is None
            return
        best_lr, best = s.best
        assert best == min(losses)
        assert s.zone is not None
        lo, hi = s.zone
        assert s.lrs[0] * (1 - 1e-9) <= lo <= best_lr * (1 + 1e-9)
        assert best_lr * (1 - 1e-9) <= hi <= s.lrs[-1] * (1 + 1e-9)
        for lr in s.lrs:
            assert s.regret(lr) >= 0
            if lo * 1.001 <= lr <= hi * 0.999:
                assert s.mean_loss(lr) <= best + s.tolerance + 1e-9
        if s.edge is not None:
            assert not np.isfinite(s.losses[s.lrs >= s.edge]).any()
            assert hi < s.edge


class TestJudge:
    @pytest.mark.parametrize(
        ("lr", "verdict", "loss", "regret"),
        [
            (0.01, "in the zone", 1.0, 0.0),
            (0.02, "in the zone", None, None),
            (0.004, "in the zone", None, None),
            (1e-3, "too low", 1.5, 0.5),
            (1e-4, "too low", 1.9, 0.9),
            (1e-7, "too low", 1.9, 0.9),
            (0.1, "too high", 1.3, 0.3),
            (0.4, "too high", 1.3, 0.3),  # beyond the last prediction, below the edge
            (0.5, "diverges", INF, INF),
            (7, "diverges", INF, INF),
        ],
    )
    def test_verdicts(self, lr: float, verdict: str, loss: float | None, regret: float | None) -> None:
        v = finding().judge(lr)
        assert (v.lr, v.verdict) == (lr, verdict)
        assert not math.isnan(v.loss)
        assert not math.isnan(v.regret)
        if loss is not None:
            assert v.loss == pytest.approx(loss)
            assert v.regret == pytest.approx(regret)
        assert str(v) == v.text
        assert "nan" not in v.text
        assert "inf" not in v.text

    def test_the_words(self) -> None:
        assert (
            finding().judge(1e-3).text
            == "1e-3 is too low by a factor of 10: it would give up about 50% of the drop in loss"
        )
        assert finding().judge(0.1).text.startswith("0.1 is too high by a factor of 10")
        assert finding(goal="max").judge(0.1).text.endswith("of the gain in the metric")
        assert finding().judge(0.5).text == "0.5 diverges: the edge is at 0.5"

    def test_without_a_loss_at_init_there_is_no_price(self) -> None:
        v = finding(init_loss=None).judge(1e-3)
        assert math.isnan(v.regret)
        assert v.text == "1e-3 is too low by a factor of 10"

    def test_without_an_edge_nothing_diverges(self) -> None:
        assert finding(edge=None).judge(1e3).verdict == "too high"

    @pytest.mark.parametrize("lr", [0, -1.0, math.nan, INF, "0.1", None, True])
    def test_no_learning_rate(self, lr: Any) -> None:
        with pytest.raises(ValueError, match="a learning rate is a positive number"):
            finding().judge(lr)

    def test_a_lr_just_below_the_edge_has_a_finite_price(self) -> None:
        v = finding().judge(0.49)
        assert v.verdict == "too high"
        assert math.isfinite(v.regret)
