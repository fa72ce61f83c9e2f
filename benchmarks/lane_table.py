"""The README's table of `lanes.py`, from its committed results.

python benchmarks/lane_table.py         # prints it, to be pasted; a test holds the README to it
"""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results/lanes.json"
MACHINE, COUNTS = "2 cores", (3, 8, 16, 32)
MODELS = {
    "wine-rmsprop": "wine-rmsprop (MLP)",
    "breast-cancer": "breast-cancer (logistic regression)",
    "diabetes": "diabetes (MLP)",
    "digits": "digits (MLP)",
    "factors": "matrix factorisation",
    "digits-cnn": "digits-cnn (convnet)",
    "lora": "LoRA on a GPT-2 of two layers",
    "gpt-chars": "gpt-chars (transformer)",
    "lstm-chars": "lstm-chars (LSTM)",
}


def gain(row):
    """The ratio, and its lower bound where there is one."""
    if row is None:
        return "–"
    return f"{row['ratio']:.2f}" + ("" if row["lower"] is None else f" ({row['lower']:.2f})")


def table(stored):
    """Markdown: gains by task and K, and what the step alone gains."""
    rows = {(row["task"], row["K"]): row for row in stored["rows"] if row["machine"] == MACHINE}
    steady = {row["task"]: row for row in stored["steady"] if row["machine"] == MACHINE and row["K"] == COUNTS[-1]}
    lines = [f"| task | {' | '.join(f'K = {k}' for k in COUNTS)} | steady, K = {COUNTS[-1]} |", "|---" * 6 + "|"]
    for task, said in MODELS.items():
        cells = [gain(rows.get((task, k))) for k in COUNTS]
        step = steady.get(task)
        cells.append("–" if step is None else f"{step['ratio']:.1f}{' compiled' * step['best']['compiled']}")
        lines.append(f"| {said} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(RESULTS.read_text())))
