"""The learning rate for transformers' Trainer: a small GPT-2 on the characters of Python's help texts.

Run it: `python examples/huggingface_trainer.py`

No hub is asked: the model is built from a configuration, the text ships with Python.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported, which reads it then

from pydoc_data.topics import topics

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import etascope as eta

WINDOW = 32


def data():
    text = "\n".join(topics[key] for key in sorted(topics))
    alphabet = {character: i for i, character in enumerate(sorted(set(text)))}
    windows = torch.tensor([alphabet[c] for c in text]).unfold(0, WINDOW, WINDOW)
    rows = [{"input_ids": window, "labels": window} for window in windows]
    cut = len(rows) * 9 // 10
    return rows[:cut], rows[cut::8], len(alphabet)


train, val, vocab_size = data()
config = GPT2Config(
    vocab_size=vocab_size, n_positions=WINDOW, n_embd=64, n_layer=2, n_head=4, use_cache=False,
    bos_token_id=None, eos_token_id=None,
)  # fmt: skip
args = TrainingArguments(
    "gpt2", max_steps=200, per_device_train_batch_size=16, lr_scheduler_type="cosine", warmup_steps=10,
    weight_decay=0.1, use_cpu=True, report_to="none",
)  # fmt: skip
trainer = Trainer(model_init=lambda: GPT2LMHeadModel(config), args=args, train_dataset=train, eval_dataset=val)


def main():
    finding = eta.find(trainer)  # the one added line; the trainer stays as it is
    print(finding)


if __name__ == "__main__":
    main()
