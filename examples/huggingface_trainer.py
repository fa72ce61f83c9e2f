"""The learning rate for transformers' Trainer: a small GPT-2 on the characters of Python's help texts.

Run it: `python examples/huggingface_trainer.py`

No hub is asked: the model is built from a configuration, the text ships with Python.
"""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported, which reads it then

import tempfile
from pydoc_data.topics import topics

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PrinterCallback, Trainer, TrainingArguments
from transformers.utils import logging

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
logging.set_verbosity_error()


def run(lr, steps, seed):
    """A complete training by the Trainer; returns its evaluation loss."""
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, learning_rate=lr, max_steps=steps, seed=seed, per_device_train_batch_size=16,
            lr_scheduler_type="cosine", warmup_steps=steps // 20, weight_decay=0.1,
            use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no", logging_strategy="no",
        )  # fmt: skip
        config = GPT2Config(
            vocab_size=vocab_size, n_positions=WINDOW, n_embd=64, n_layer=2, n_head=4, use_cache=False,
            bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        trainer = Trainer(model_init=lambda: GPT2LMHeadModel(config), args=args, train_dataset=train, eval_dataset=val)
        trainer.remove_callback(PrinterCallback)  # it would print the losses of each of many short trainings
        if steps:  # a run of 0 steps is asked for once: the loss at the start
            trainer.train()
        return trainer.evaluate()["eval_loss"]


def main():
    finding = eta.find(run, horizon=200)
    print(finding)


if __name__ == "__main__":
    main()
