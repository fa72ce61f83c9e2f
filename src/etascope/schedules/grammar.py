"""Text to schedule: what `repr` writes, and the same with bare lengths (5%, 2ep). A parser of its own, no `eval`.

schedule = product { ">>" product }
product  = factor { "*" factor }
factor   = ( number | call | "(" schedule ")" ) { "." method }
call     = name "(" [ argument { "," argument } ] ")"
method   = ( "bind" | "rescale" | "extend" ) "(" … ")"
argument = [ name "=" ] ( number | length | text | list | True | False | None )
number   = [ "-" ] digits [ "/" digits ];   length = digits ( "%" | "ep" )
"""

from __future__ import annotations

import difflib
import inspect
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import ScheduleError
from .base import Schedule

__all__ = ["parse"]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<length>(?:\d+\.?\d*|\.\d+)\s*(?:%|ep\b))
      | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<name>[^\W\d]\w*)
      | (?P<text>'[^']*'|"[^"]*")
      | (?P<mark>>>|[()\[\],=*/.-])
      | (?P<end>$)
    )""",
    re.VERBOSE | re.ASCII,
)
_WORDS = {"True": True, "False": False, "None": None, "true": True, "false": False, "none": None}
_METHODS = ("bind", "rescale", "extend")
_DEEPEST = 16  # a leading hold lays out what follows it, so that the work doubles with each


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str, names: Mapping[str, Callable[..., Schedule]]) -> Schedule:
    """The schedule that `text` says; `names` are the functions that may be called.

    Raises:
        ScheduleError: what is wrong, with its column, and the nearest word.
    """
    if not isinstance(text, str):
        raise ScheduleError(f"{text!r} is no text.", 'Write "warmup(5%) >> cosine(to=0.1)".')
    return _Parser(text, names).whole()


class _Parser:
    """Recursive descent: a method per rule of the grammar, each leaving `self.i` after what it read."""

    def __init__(self, text: str, names: Mapping[str, Callable[..., Schedule]]) -> None:
        self.text, self.names = text, names
        self.i = self.depth = 0
        self.tokens = list(self._tokens())

    def whole(self) -> Schedule:
        value = self._schedule()
        if self._now.kind != "end":
            self._fail(f"{self._now.text!r} where the schedule should end or go on", "Go on with '>>' or '*'.")
        if not isinstance(value, Schedule):
            self._fail(f"{value!r}, a number", f"Write constant(value={value!r}).", self.tokens[0])
        return value

    # ------------------------------------------------------------------------------ the grammar

    def _schedule(self) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            self._fail("too many brackets within brackets", "Write it with fewer.")
        value = self._product()
        while (at := self._now).text == ">>":
            self.i += 1
            value = self._joined(operator.rshift, at, value, self._product())
        self.depth -= 1
        return value

    def _product(self) -> Any:
        value = self._factor()
        while (at := self._now).text == "*":
            self.i += 1
            value = self._joined(operator.mul, at, value, self._factor())
        return value

    def _factor(self) -> Any:
        token = self._now
        if token.kind == "number" or token.text == "-":
            return self._number()
        if token.text == "(":
            self.i += 1
            value = self._schedule()
            self._take(")")
        elif token.kind == "name":
            value = self._call(self._known(token, self.names, "schedule"))
        else:
            self._fail(
                f"{token.text!r} where a schedule should be" if token.text else "an end where a schedule should be",
                "Write a schedule such as warmup(5%) or cosine(to=0.1).",
            )
        while self._now.text == ".":
            self.i += 1
            methods = {name: m for name in _METHODS if (m := getattr(value, name, None))}
            value = self._call(self._known(self._now, methods, "method here"))
        return value

    def _call(self, function: Callable[..., Any]) -> Any:
        name = self._now
        self.i += 1
        if self._now.text != "(":
            self._fail(f"{name.text!r} without its brackets", f"Write {name.text}(...).", name)
        self.i += 1
        parameters = inspect.signature(function).parameters
        known = list(parameters)
        args: list[Any] = []
        given: dict[str, Any] = {}
        places: dict[str, _Token] = {}
        while self._now.text != ")":
            token = self._now
            if token.kind == "name" and self.tokens[self.i + 1].text == "=":
                self._known(token, dict.fromkeys(known), f"argument of {name.text}")
                if token.text in given or token.text in known[: len(args)]:
                    self._fail(f"{token.text!r} twice", "Give it once.", token)
                self.i += 2
                places[token.text] = self._now
                given[token.text] = self._value()
            elif given:
                self._fail(f"{token.text!r} after a named argument", "Name it, or put it first.", token)
            elif len(args) == len(known):
                self._fail(
                    f"one argument too many for {name.text}", f"It takes {', '.join(known) or 'no argument'}.", token
                )
            else:
                places[known[len(args)]] = token
                args.append(self._value())
            if self._now.text != ")":
                self._take(",", "or ')'")
        self.i += 1
        needed = [p.name for p in parameters.values() if p.default is p.empty]
        if absent := [name for name in needed if name not in given and name not in known[: len(args)]]:
            self._fail(f"{name.text!r} without {' and '.join(absent)}", f"Write {name.text}({absent[0]}=...).", name)
        return self._made(lambda: function(*args, **given), name, places)

    def _value(self) -> Any:
        token = self._now
        if token.kind == "number" or token.text == "-":
            return self._number()
        if token.text in ("[", "("):
            return self._list("]" if token.text == "[" else ")")
        self.i += 1
        if token.kind == "length":
            return token.text.replace(" ", "")
        if token.kind == "text":
            return token.text[1:-1]
        if token.text in _WORDS:
            return _WORDS[token.text]
        if token.kind == "name":  # by=linear is as good as by='linear'
            return token.text
        said = repr(token.text) if token.text else "an end"
        return self._fail(f"{said} where a value should be", "Write a number, a length (500, 5%, 2ep), a word.", token)

    def _list(self, close: str) -> tuple[Any, ...]:
        self.i += 1
        values = []
        while self._now.text != close:
            if self._now.text in ("[", "("):
                self._fail("a list in a list", "Write one list of values.")
            values.append(self._value())
            if self._now.text != close:
                self._take(",", f"or {close!r}")
        self.i += 1
        return tuple(values)

    def _number(self) -> float:
        sign = 1
        if self._now.text == "-":
            self.i += 1
            sign = -1
        value = sign * self._digits()
        if self._now.text == "/":
            self.i += 1
            at = self._now
            if (divisor := self._digits()) == 0:
                self._fail("a division by 0", "Divide by something else.", at)
            return value / divisor
        return value

    def _digits(self) -> float:
        token = self._now
        if token.kind != "number":
            self._fail(f"{token.text!r} where a number should be", "Write a number such as 0.1 or 1/25.")
        self.i += 1
        if len(token.text) > 30:
            self._fail("a number of too many digits", "Write it as 1e30.", token)
        return int(token.text) if token.text.isdigit() else float(token.text)

    # ------------------------------------------------------------------------------ tokens and errors

    def _tokens(self) -> Iterable[_Token]:
        at = 0
        while True:
            match = _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                word = re.match(r"\S[\w.%]*", self.text[at:])
                token = _Token("unknown", word[0] if word else self.text[at], at)
                self._fail(
                    f"{token.text!r}, which is nothing that a schedule is written with",
                    "Lengths are 500 (steps), 5% (of the horizon), 2ep (epochs).",
                    token,
                )
            kind = match.lastgroup or "end"
            yield _Token(kind, match[kind], match.start(kind))
            if kind == "end":
                return
            at = match.end()

    @property
    def _now(self) -> _Token:
        return self.tokens[self.i]

    def _take(self, mark: str, other: str = "") -> None:
        if self._now.text != mark:
            found = repr(self._now.text) if self._now.text else "the end"
            self._fail(f"{found} where {mark!r} {f'{other} ' if other else ''}should be", f"Write {mark!r} there.")
        self.i += 1

    def _known(self, token: _Token, known: Mapping[str, Any], what: str) -> Any:
        if token.text in known:
            return known[token.text]
        if token.text == "as_schedule":
            self._fail("a function, which text cannot hold", "Build it in Python: as_schedule(function).", token)
        near = difflib.get_close_matches(token.text, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return self._fail(f"{token.text!r}, which is no {what}", f"{hint}Known: {', '.join(sorted(known))}.", token)

    def _joined(self, join: Callable[[Any, Any], Any], at: _Token, left: Any, right: Any) -> Any:
        if join is operator.rshift and not isinstance(left, Schedule):
            self._fail("'>>' after a number", f"Write constant(value={left!r}).", at)
        if join is operator.rshift and not isinstance(right, Schedule):
            self._fail("a number where a schedule should be", f"Write constant(value={right!r}).")
        return self._made(lambda: join(left, right), at)

    def _made(self, make: Callable[[], Any], at: _Token, places: Mapping[str, _Token] | None = None) -> Any:
        """What `make` makes; if it fails, the text is shown, pointing at the argument that the error names."""
        try:
            return make()
        except ScheduleError as error:
            said = error.cause
            named = (
                token
                for name, token in (places or {}).items()
                if f"{at.text}({name}=" in said or said.startswith(f"{name} is ")
            )
            raise ScheduleError(f"{error.cause}\n{self._shown(next(named, at))}", error.next_move) from None

    def _shown(self, token: _Token) -> str:
        row, column = self._place(token)
        return f"    {self.text.split(chr(10))[row]}\n    {' ' * column}^"

    def _place(self, token: _Token) -> tuple[int, int]:
        before = self.text[: token.at].split("\n")
        return len(before) - 1, len(before[-1])

    def _fail(self, what: str, next_move: str, token: _Token | None = None) -> NoReturn:
        row, column = self._place(token or self._now)
        where = f"Line {row + 1}, column {column + 1}" if "\n" in self.text.strip() else f"Column {column + 1}"
        raise ScheduleError(f"{where} has {what}.\n{self._shown(token or self._now)}", next_move)
