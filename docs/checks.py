"""Writes docs/checks/ from the checks' titles and docstrings: `python docs/checks.py`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from etascope.watcher import Policy, early_stop, follow, hypergradient, pearce_hall, rewind
from etascope.watcher.checks import CHECKS, AlarmCheck, Check
from etascope.watcher.checks.eta013_changed import Changed
from etascope.watcher.policies import Alarm, Scene
from etascope.watcher.signals import Signals

HERE = Path(__file__).parent / "checks"
POLICIES: tuple[Policy[object], ...] = (rewind(), follow(), hypergradient(), pearce_hall(), early_stop())
OF = {"ETA002": "weights", "ETA005": "lr", "ETA013": "schedule"}  # what is out of line; an update at the others

MLP = "an MLP on digits"
EXAMPLES = {  # what was said in real runs (benchmarks and docs, November 2026), and of which
    "ETA001": (
        f"{MLP}, SGD, cosine from 0.1, one input made NaN, with `act`",
        "step 200: the loss is nan, after a running 0.603; this update is left out; ETA001",
    ),
    "ETA002": (
        f"{MLP}, Adam, gradients with the wrong sign from step 300 on, without `act`",
        "step 375: the last 8 losses are 0.66 on average, against a running 0.361 ± 0.16 and 0.0632 at best; would be "
        "done: rewound to step 350, lr 1e-4 → 5e-5; ETA002",
    ),
    "ETA003": (
        f"{MLP}, SGD, cosine from 0.1, one batch a hundred times too large, with `act`",
        "step 249: loss 3.19 against a running 0.419 ± 0.141 (20 σ), gradient norm 53.2× its usual 0.799; this update "
        "is left out; ETA003",
    ),
    "ETA004": (
        f"{MLP}, SGD with momentum at a constant lr of 0.03",
        "step 1,304: since step 1,020 the loss has fallen by 0, of 2.305 in all; ETA004",
    ),
    "ETA005": (
        f"{MLP}, gradient descent on all the data at an lr of 1.5",
        "step 79: lr · sharpness is more than 100 times what is stable, and the loss does not fall; would be done: the "
        "lr is cut to 0.5 of what it was; ETA005",
    ),
    "ETA006": (
        f"{MLP}, Adam, cosine from 3e-5, a hundredth of what is good",
        "step 314: successive updates agree (+0.83) and the loss falls along a straight line; ETA006",
    ),
    "ETA007": (
        f"{MLP}, Adam, 100 images to learn from",
        "step 250: validation is 0.597 after 0.542 at step 100, while the training loss fell from 0.173 to 0.00742; "
        "ETA007",
    ),
    "ETA008": (
        f"{MLP}, SGD, cosine from 1e-4",
        "step 1,015: the updates of a and 1 more move the weights by 9e-07 of their norm each: too small; ETA008",
    ),
    "ETA009": (
        f"{MLP}, half of the labels drawn at random, AdaGrad, 5,000 updates",
        "step 3,615: per unit of lr and of gradient, an update goes 9.3 times less far than at step 79, at lr 1e-2; "
        "ETA009",
    ),
    "ETA010": (
        f"{MLP}, SGD, cosine from 1",
        "step 104: by step 60 the loss had risen from 2.272 to 3.844 at lr 1, with no warmup; ETA010",
    ),
    "ETA011": (
        f"{MLP}, 1,800 updates where 1,500 had been said",
        "step 1,514: update 1,514 of a run of 1,500: the schedule is over; ETA011",
    ),
    "ETA012": (
        f"{MLP}, the biases of the middle layer at −100",
        "step 131: a and 1 more of 3 layers have had no gradient at three probes in a row; ETA012",
    ),
    "ETA013": (
        f"{MLP}, SGD, the lr divided by ten by somebody else, with `act`",
        "step 398: the optimizer's lr is 2.5e-3, and the schedule says 2.5e-2: 0.1 times that; the schedule's lr is "
        "written again; ETA013",
    ),
}


def answered(check: Check) -> str:
    """Who does something about it, asked of the policies."""
    if not isinstance(check, AlarmCheck | Changed):
        return "It makes a note; no policy answers it, and nothing is done."
    signals = Signals(1000)
    alarm = Alarm(check.code, "", of=OF.get(check.code, "update"))  # type: ignore[arg-type]
    scene = Scene(signals, 100, (0, 40, 80), 1e-3)
    names = [p.kind for p in POLICIES if p.alarmed(p.init(), alarm, scene)[1] is not None]
    by = ", ".join(f"`{name}`" for name in names)
    return f"It raises an alarm, which {by} answers; without `act`, what it would do stands in the log."


def needs(check: Check) -> str:
    """When it looks."""
    if isinstance(check, AlarmCheck):
        return "at each probe" if check.code == "ETA005" else "at every observation"
    said = {
        "block": "after each hundredth of the run or so", "validation": "at each validation", "probe": "at each probe",
        "data": "after updates were left out", "lr": "when somebody else has written the lr", "end": "at the end",
    }  # fmt: skip
    return ", ".join(said[event] for event in said if event in check.on)  # type: ignore[attr-defined]


def page(check: Check) -> str:
    """A check's page."""
    run, sentence = EXAMPLES[check.code]
    return (
        "\n\n".join(
            [
                f"# {check.code}: {check.title}",
                "*Written by `python docs/checks.py` from the check's docstring. [All checks](README.md) · "
                "[Watching](../watching.md)*",
                inspect.getdoc(type(check)) or "",
                f"**When it looks.** {needs(check).capitalize()}.",
                f"**What is done.** {answered(check)}",
                f"**As it was said** of {run}:\n\n> {sentence}",
            ]
        ).rstrip()
        + "\n"
    )


def first_sentence(check: Check) -> str:
    """What it looks for, in one line."""
    return re.split(r"(?<=\.)\s", inspect.getdoc(type(check)) or "", maxsplit=1)[0]


def index() -> str:
    """The list of all."""
    rows = [
        f"| [{check.code}]({check.code}.md) | {check.title} | {first_sentence(check)} | "
        f"{'alarm' if isinstance(check, AlarmCheck | Changed) else 'note'} |"
        for check in CHECKS
    ]
    return "\n".join(
        [
            "# Checks",
            "",
            "*Written by `python docs/checks.py`.*",
            "",
            "What [`eta.watch`](../watching.md) looks for. An alarm is answered by the policies; a note says what was "
            "seen and what to do next, at most once while the lr rises, stays or falls.",
            "",
            "| code | title | what it sees | |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def pages() -> dict[str, str]:
    """Every file's text by its name."""
    return {"README.md": index(), **{f"{check.code}.md": page(check) for check in CHECKS}}


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")
