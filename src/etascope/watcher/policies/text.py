"""A policy from text, as it is printed; nothing is run but the constructors of policies and factors."""

from __future__ import annotations

import ast
import difflib
from typing import Any

from ...errors import OptionError
from ...schedules.factors import greedy, plateau
from .base import Policy
from .early_stop import early_stop
from .follow import follow
from .hypergradient import hypergradient
from .metric import metric
from .pearce_hall import pearce_hall
from .rewind import rewind

__all__ = ["policy_from"]

NAMES: dict[str, Any] = {
    "rewind": rewind, "follow": follow, "early_stop": early_stop, "hypergradient": hypergradient,
    "pearce_hall": pearce_hall, "plateau": plateau, "greedy": greedy,
}  # fmt: skip


def policy_from(text: str) -> Policy[Any]:
    """The policy that a text says: a name, and its options as literals.

    Raises:
        OptionError: an unknown name or option, or something else than a call with literals.

    >>> policy_from("rewind(factor=0.3)"), policy_from("follow"), policy_from("plateau(patience=2)")
    (rewind(factor=0.3), follow(), plateau(patience=2))
    """
    move = "Write it as rewind(factor=0.3) or plateau(patience=2)."
    try:
        said = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise OptionError(f"{text!r} is no policy.", move) from None
    call = said if isinstance(said, ast.Call) else None
    name = call.func if call is not None else said
    if not isinstance(name, ast.Name):
        raise OptionError(f"{text!r} is no policy.", move)
    if name.id not in NAMES:
        near = difflib.get_close_matches(name.id, NAMES, 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise OptionError(f"{name.id!r} is no policy.", f"{hint}There are {', '.join(NAMES)}.")
    if call is not None and call.args:
        raise OptionError(f"{text!r} has an option without its name.", move)
    options: dict[str, Any] = {}
    for keyword in call.keywords if call is not None else ():
        if keyword.arg is None:
            raise OptionError(f"{text!r} has ** in it.", move)
        try:
            options[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            value = ast.unparse(keyword.value)
            raise OptionError(f"{keyword.arg}={value} is no plain value.", "Give a number.") from None
    try:
        made = NAMES[name.id](**options)
    except TypeError as error:
        raise OptionError(f"{text!r}: {error}.", "Look at its options in the docs.") from None
    return made if isinstance(made, Policy) else metric(made)
