"""Sentences: the five lines, and the long form."""

import pytest

from etascope import records, reports
from etascope.reports import terminal
from etascope.reports.facts import facts_of
from etascope.reports.words import paste


def test_the_answer_is_five_lines(make):
    lines = reports.answer(make.finding()).splitlines()
    assert lines[0] == "digits: use lr 1.1e-2 (predicted validation loss 0.21 after 2,000 steps)"
    assert lines[1] == "As good: 5.4e-3 to 2.3e-2. It diverges from 0.19."
    assert lines[2].startswith("validation loss  1e-5 █") and lines[2].endswith("× 10")
    assert "[" in lines[2] and "]" in lines[2]
    assert lines[3].startswith("90% sure that the best lr is in 7.2e-3 to 1.6e-2. Cost: 0.97 complete runs, 41 s")
    assert lines[4] == "optimizer = torch.optim.AdamW(model.parameters(), lr=1.1e-2, weight_decay=0.1)"
    assert len(lines) == 5


def test_the_users_own_lr_and_the_notes_follow(odd):
    assert reports.answer(odd["mine low"]).splitlines()[5].startswith("Yours, 1e-3 is too low by a factor of 11: it")
    assert reports.answer(odd["mine diverges"]).splitlines()[5] == "Yours, 3 diverges: the edge is at 0.19."
    interrupted = reports.answer(odd["interrupted"])
    assert "interrupted before the race was over" in interrupted
    assert interrupted.splitlines()[-1] == "Note: Interrupted in rung 3 of 4."


def test_a_training_function_has_no_threads_of_ours(odd):
    said = reports.text(odd["its own engine"])
    assert "callable (a training function)" in said and "0 threads" not in said


def test_the_line_to_paste_holds_the_very_lr_and_leaves_braces_alone(make):
    record = make.finding(lr=0.0123456789, paste="Adam(m.parameters(), lr={lr}, **{'eps': 1e-6})")
    line = paste(facts_of(record))
    assert line == "Adam(m.parameters(), lr=1.23456789e-2, **{'eps': 1e-6})"
    assert float(line.split("lr=")[1].split(",")[0]) == record.lr


def test_the_sparkline_is_low_where_the_loss_is(make):
    record = make.finding()
    cells = terminal.sparkline(facts_of(record)).split(" ")[1]
    inside = cells[cells.index("[") + 1 : cells.index("]")]
    assert set(inside) == {"▁"} and cells[0] == "█" and cells.count("×") > 5


def test_a_metric_rises_in_the_sparkline(odd):
    cells = terminal.sparkline(facts_of(odd["metric"])).split(" ")[1]
    assert set(cells[cells.index("[") + 1 : cells.index("]")]) == {"█"}


def test_no_answer_gives_the_reason(make):
    lines = reports.answer(make.unanswered()).splitlines()
    assert lines[0] == "digits: no honest answer"
    assert lines[1] == "Every learning rate diverges, down to 0.2."


def test_the_long_form_holds_every_setting(make):
    record = make.finding()
    text = reports.text(record)
    evidence = text.split("Evidence\n")[1].split("\n\n")[0].splitlines()
    assert len(evidence) == 1 + 27
    assert "AdamW(betas=(0.9, 0.95), weight_decay=0.1)" in text
    assert "warmup('5%') >> cosine()" in text


def test_the_chart_has_rows_of_one_width(make):
    rows = terminal.chart(facts_of(make.finding())).splitlines()[1:-1]
    assert len({len(row) for row in rows}) == 1


def test_print_shows_the_answer_and_notebooks_the_card(make):
    record = make.finding()
    assert str(record) == reports.answer(record)
    fragment = record._repr_html_()
    assert "<html" not in fragment and "<svg" in fragment and "Use 1.1e-2" in fragment
    assert records.evidence._text_hook is reports.answer


@pytest.mark.parametrize("goes", ["answer", "text"])
def test_odd_records_have_words(odd, goes):
    for name, record in odd.items():
        said = getattr(reports, goes)(record)
        assert said.startswith("digits: "), name
        for wrong in ("nan", "inf ", "None"):
            assert wrong not in said, name
