"""Text to schedule: what may be written, and errors that point."""

from __future__ import annotations

import re

import pytest

from etascope.errors import ScheduleError
from etascope.schedules import (
    Schedule,
    constant,
    cosine,
    linear,
    one_cycle,
    piecewise,
    restarts,
    tri_stage,
    warmup,
    wsd,
)

parse = Schedule.parse


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("warmup(5%) >> cosine(to=0.1)", warmup("5%") >> cosine(to=0.1)),
        ("warmup('5%')>>cosine(to=.1)", warmup("5%") >> cosine(to=0.1)),
        ("warmup(5 %) >> cosine(to = 1e-1)", warmup("5%") >> cosine(to=0.1)),
        ('warmup("2ep") >> restarts(10ep, growth=2)', warmup("2ep") >> restarts("10ep", growth=2)),
        ("one_cycle(30%, start=1/25, by=linear)", one_cycle("30%", start=1 / 25, by="linear")),
        ("one_cycle(at_last=true, three_phase = False)", one_cycle(at_last=True)),
        ("linear(length=None, start=-1)", linear(start=-1)),
        ("0.5 * cosine() * 2", cosine()),
        ("2 * 0.25 * cosine()", 0.5 * cosine()),
        ("(warmup(3) >> linear(7)) * constant(value=0.5)", (warmup(3) >> linear(7)) * constant(value=0.5)),
        ("warmup(3) >> linear(7) * 2", warmup(3) >> 2 * linear(7)),
        ("piecewise([3, 50%], (1, 0.5, .1),)", piecewise([3, "50%"], [1, 0.5, 0.1])),
        ("wsd(10%)", wsd("10%")),
        ("tri_stage()", tri_stage()),
        ("cosine().bind(100, steps_per_epoch=12.5).rescale(10)", cosine().bind(100, 12.5).rescale(10)),
        ("cosine().bind(100).extend(5, 200, keep=value)", cosine().bind(100).extend(5, 200, "value")),
        ("  ((cosine()))  ", cosine()),
        ("\nwarmup(5)\n  >> cosine()\n", warmup(5) >> cosine()),
    ],
)
def test_written_and_meant(text: str, meant: Schedule) -> None:
    assert parse(text) == meant


@pytest.mark.parametrize(
    ("text", "column", "cause", "move"),
    [
        ("warmup(5%) >> cosin(to=0.1)", 15, "no schedule", "Did you mean 'cosine'"),
        ("cosine(too=0.1)", 8, "no argument of cosine", "Did you mean 'to'"),
        ("warmup(5%) >> cosine(to=x)", 25, "not a number", "0.1"),
        ("warmup(0.05) >> cosine()", 8, "float is a value", "5%"),
        ("cosine() >> linear(150%)", 20, "more than the whole", "100%"),
        ("cosine() >> linear()", 10, "both without a length", "cosine"),
        ("cosine(", 8, "an end", "number"),
        ("cosine(to=0.1", 14, "the end", "Write ','"),
        ("cosine() >>", 12, "an end", "Write a schedule"),
        ("", 1, "an end", "Write a schedule"),
        ("cosine() cosine()", 10, "should end or go on", ">>"),
        ("cosine", 1, "without its brackets", r"cosine\(...\)"),
        ("cosine().bind", 10, "without its brackets", "bind"),
        ("cosine().bnd(3)", 10, "no method", "Did you mean 'bind'"),
        ("cosine().extend(3, 5)", 10, "no method", "bind"),
        ("cosine().bind(0)", 15, "horizon is 0", "at least 1"),
        ("warmup()", 1, "without length", "warmup"),
        ("linear(1, 2, 3, 4)", 17, "too many", "length, start, to"),
        ("cosine(to=0, to=1)", 14, "twice", "once"),
        ("cosine(5, length=4)", 11, "twice", "once"),
        ("cosine(to=0, 5)", 14, "after a named", "first"),
        ("cosine(5x)", 8, "'5x'", "5%"),
        ("cosine(5 steps)", 10, "'steps'", "','"),
        ("cosine() + linear()", 10, "'+'", "500"),
        ("0.5", 1, "a number", "constant"),
        ("2 * 3", 1, "a number", "constant"),
        ("cosine() >> 0.5", 16, "a number", "constant"),
        ("0.5 >> cosine()", 5, "after a number", "constant"),
        ("cosine(to=1/0)", 13, "division by 0", "else"),
        ("piecewise([[1]], [2])", 12, "list in a list", "one list"),
        ("as_schedule(f)", 1, "function", "Python"),
        ("__import__('os').system('true')", 1, "no schedule", "Known"),
        ("cosine().__class__", 10, "no method", "Known"),
        ("(" * 60 + "cosine()" + ")" * 60, 51, "brackets", "fewer"),
        ('warmup("5%) >> cosine()', 8, '"5%', "Lengths"),
    ],
)
def test_errors_point_at_the_column(text: str, column: int, cause: str, move: str) -> None:
    with pytest.raises(ScheduleError) as error:
        parse(text)
    lines = error.value.cause.split("\n")
    assert cause in error.value.cause
    assert lines[-2] == f"    {text}"
    assert lines[-1] == " " * (4 + column - 1) + "^"
    assert re.search(move, error.value.next_move)


def test_the_column_of_a_text_of_several_lines_is_in_its_line() -> None:
    with pytest.raises(ScheduleError) as error:
        parse("warmup(5%)\n  >> cosin()")
    assert error.value.cause.startswith("Line 2, column 6")
    assert error.value.cause.endswith("has 'cosin', which is no schedule.\n      >> cosin()\n         ^")


def test_only_text_is_parsed() -> None:
    with pytest.raises(ScheduleError, match="no text"):
        parse(3)  # type: ignore[arg-type]
