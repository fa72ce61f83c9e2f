"""Scales, labels, thinning, and schedules as code."""

import math
import re
from itertools import pairwise

import pytest
import torch

import etascope as eta
from etascope.reports.facts import facts_of
from etascope.reports.lines import training_lines
from etascope.reports.plots import loss_against_lr
from etascope.reports.scales import loss_scale, lr_scale
from etascope.reports.svg import Canvas, Label, _box, stack, thin

schedules = pytest.importorskip("etascope.schedules")


def test_huge_losses_do_not_flatten_the_picture():
    scale = loss_scale([0.2, 0.25, 0.3, 0.4, 1e9, math.inf], 0, 100)
    assert scale.hi < 1
    assert loss_scale([0.2, 2.0, 50.0], 0, 100, cap=2.3).hi < 2.5


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 0.0], [math.nan], [-5.0, -5.0], [1e-12, 1e12], [3.0, 3.0 + 1e-12]])
def test_a_scale_for_anything(values):
    scale = loss_scale(values, 100, 0)
    assert scale.lo < scale.hi
    assert all(math.isfinite(scale(v)) for v in values if math.isfinite(v))
    assert all(scale.holds(t) for t in scale.ticks())


@pytest.mark.parametrize("lrs", [[1e-3], [1e-12, 1e12], [1e-3, 1.1e-3], [], [5e-4, 7e-2]])
def test_an_lr_scale_has_ticks_apart(lrs):
    scale = lr_scale(lrs, 0, 400)
    at = [scale(t) for t in scale.ticks(8, gap=38)]
    assert len(at) >= 1 and all(b - a >= 38 for a, b in pairwise(at))


def test_stacked_labels_do_not_overlap_and_stay_inside():
    rows = stack(
        [Label(10, "use 2.1e-3", ""), Label(12, "yours 2e-3", ""), Label(395, "diverges from 0.2", "")],
        0,
        400,
    )
    assert [row for row, _, _ in rows] == [0, 1, 0]
    assert all(0 < x < 400 for _, x, _ in rows)


def test_thinning_keeps_ends_and_spikes():
    points = [(float(i), 9.0 if i == 777 else 0.0) for i in range(2000)]
    kept = thin(points, 50)
    assert len(kept) <= 50 and kept[0] == points[0] and kept[-1] == points[-1] and points[777] in kept


def test_text_is_never_written_over_text(odd):
    for name in ("plain", "mine low", "metric", "no init", "sweep"):
        for narrow in (False, True):
            canvas = loss_against_lr(facts_of(odd[name]), narrow=narrow)
            boxes = Boxes(canvas).texts
            for i, a in enumerate(boxes):
                assert a[0] >= -1 and a[2] <= canvas.width + 12, (name, narrow, a)
                for b in boxes[i + 1 :]:
                    apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
                    assert apart, (name, narrow, a, b)


class Boxes:
    """The boxes of a canvas's texts, measured again from what was written."""

    def __init__(self, canvas: Canvas):
        pattern = r'<text x="([-\d.]+)" y="([-\d.]+)" font-size="([\d.]+)"(?: text-anchor="(\w+)")?[^>]*>([^<]*)<'
        found = re.findall(pattern, "".join(canvas.parts))
        self.texts = [(*_box((float(x), float(y)), t, a or "start", float(s)), t) for x, y, s, a, t in found]


def some_schedules():
    s = schedules
    one = s.warmup("5%") >> s.cosine()
    return [
        s.constant(),
        one,
        one.bind(2000),
        one.bind(2000).rescale(125),
        s.warmup(10) >> s.hold(),
        s.cosine() * 0.5,
        (s.warmup(5) >> s.linear(to=0.1)) * 2.0,
        s.warmup("1ep") >> (s.cosine() * 0.5),
        (s.warmup("1ep") >> s.exponential(to=0.01)).bind(300, steps_per_epoch=30),
    ]


@pytest.mark.parametrize("schedule", some_schedules(), ids=repr)
def test_the_training_lines_bring_the_schedule(make, schedule):
    lines = training_lines(facts_of(make.finding(schedule=schedule.to_json()))).splitlines()
    assert lines[0] == "import etascope as eta" and lines[2].startswith("optimizer = ")
    names = {"eta": eta, "optimizer": torch.optim.SGD([torch.zeros(1)], lr=0.1), "train_loader": [0] * 10}
    exec(lines[3], names)
    assert names["schedule"] == schedule
    if not isinstance(schedule, schedules.Bound):
        exec(lines[4], names)
        assert names["handle"].lrs == [0.1 * schedule.bind(2000, 10)(0)]


def test_without_a_schedule_there_is_the_optimizer_alone(make):
    for schedule in ({}, {"foreign": "mine"}, {"schema": 1, "kind": "then"}):
        only = training_lines(facts_of(make.finding(schedule=schedule)))
        assert only == "optimizer = torch.optim.AdamW(model.parameters(), lr=1.1e-2, weight_decay=0.1)"


def test_a_watched_run_is_drawn_and_told() -> None:
    from etascope.watcher import LogWriter
    from etascope.watcher.log import Log

    log = LogWriter(None, {"optimizer": "AdamW"})
    for i in range(200):
        log.observe(i, i, 2.0 - 0.005 * i + (9.0 if i == 120 else 0.0), 1e-3)
    decision = {"seen": 120, "step": 120, "code": "ETA003", "policy": "rewind", "action": "skip", "taken": True}
    log.write("decision", {**decision, "said": "loss 9 & more; left out"})
    log.write("val", {"seen": 199, "step": 199, "loss": 1.25})
    plot = eta.plot(log.log)
    assert "loss 9 &amp; more; left out; ETA003" in plot.svg and "validation 1.25" in plot.svg
    assert plot.svg.count('class="edge"') == 1
    assert "200 observations, loss 2 → 1.005" in plot.terminal and "left out; ETA003" in plot.terminal
    assert "Nothing was observed" in eta.plot(Log([{"kind": "header"}])).svg
