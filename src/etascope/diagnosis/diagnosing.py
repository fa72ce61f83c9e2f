"""`diagnose`: a log in, a `Diagnosis` out."""

from __future__ import annotations

import os

from ..errors import RecordError
from ..records import Curve
from ..records.diagnosis import VERDICTS, Diagnosis
from .evidence import next_move, sentences
from .features import features
from .log import RunLog
from .model import FEW, faults, predict
from .reading import read

__all__ = ["diagnose"]

LEAST = 5  # losses


def diagnose(source: str | os.PathLike[str] | Curve | RunLog) -> Diagnosis:
    r"""Say whether a run's lr was too high, too low or fine, or something else is wrong, from its log alone.

    The answer is that of a model fitted with runs of other tasks, whose verdict a dense sweep gives; see
    docs/diagnosis.md for what it gets wrong. Nothing is trained. More columns make it better: the training loss is
    needed; validation loss, lr, the gradient's norm and the probes of `eta.watch` are read where they are there.

    Args:
        source: a TensorBoard folder or event file (needs `pip install 'etascope[watch]'`), a CSV, a JSONL, a
            Hugging Face `trainer_state.json` or the folder it lies in, the log of a watched run, or a `Curve` of a
            sweep or finding.

    Returns:
        The verdict with the probabilities of all four, evidence, and what to do next.

    Raises:
        RecordError: the log cannot be read, has no training loss, or fewer than 5 of them.

    >>> import json, tempfile
    >>> path = tempfile.mkdtemp() + "/log.jsonl"
    >>> rows = [{"step": t, "loss": 2.3 * 1.1**t, "lr": 3.0} for t in range(300)]
    >>> _ = open(path, "w").write("\n".join(map(json.dumps, rows)))
    >>> diagnose(path).verdict
    'too high'
    """
    log = read(source)
    if len(log.loss) < LEAST:
        raise RecordError(
            f"{log.source} has {len(log.loss)} training losses, and at least {LEAST} are needed.",
            "Log the training loss more often.",
        )
    found = features(log)
    probabilities = predict(found, len(log.loss))
    verdict = max(VERDICTS, key=lambda v: probabilities[v])
    first, last = log.span
    return Diagnosis(
        verdict=verdict,
        probabilities=probabilities,
        evidence=sentences(log, found, verdict),
        next_move=next_move(verdict, faults(found, len(log.loss)) if verdict == "not the learning rate" else {}),
        read=dict(log.columns),
        steps=(int(first), int(last)),
        source=log.source,
        notes=(*log.notes, *_remarks(log)),
    )


def _remarks(log: RunLog) -> list[str]:
    """What makes the answer less sure than it could be."""
    said = []
    lacking = [what for what, column in (("lr", log.lr), ("val", log.val)) if not len(column)]
    if lacking:
        named = {"lr": "the lr", "val": "the validation loss"}
        said.append(f"the log lacks {' and '.join(named[what] for what in lacking)}: the answer is less sure for it")
    if len(log.loss) < FEW:
        said.append(f"{len(log.loss)} losses show no noise from step to step: the answer is less sure for it")
    last = log.span[1]
    if log.horizon and last < 0.9 * log.horizon - 1 and bool((abs(log.loss.values[-1:]) < float("inf")).all()):
        said.append(f"the run is at step {last:,.0f} of {log.horizon:,.0f}: it is judged as if it ended here")
    return said
