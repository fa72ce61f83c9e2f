"""The tasks that `lanes.py` measures: the built-in ones, a matrix factorisation and a LoRA fine-tuning.

The factorisation needs `ETASCOPE_DATA`, and the fine-tuning needs transformers and peft.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from outside import goodbooks_factors

from etascope.workloads import TASKS, get

VOCABULARY = 128  # at least the characters of `gpt-chars`


def adapted_gpt():
    """A GPT-2 of two layers, frozen, with LoRA adapters (r = 8) on its attention.

    Its weights are random: nothing is downloaded, and a step takes as long as with trained ones.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=64, n_embd=96, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    adapters = LoraConfig(r=8, lora_alpha=16, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    return get_peft_model(GPT2LMHeadModel(config), adapters)


def next_character(model, batch):
    return F.cross_entropy(model(input_ids=batch[0]).logits.flatten(0, 1), batch[1].flatten())


def lora():
    """LoRA on the characters of Python's help, AdamW, warmup and cosine: data and schedule of `gpt-chars`."""
    return replace(
        get("gpt-chars"), name="lora", model=adapted_gpt, loss=next_character, optimizer=torch.optim.AdamW, params=None
    )


OTHERS = {"factors": goodbooks_factors, "lora": lora}
NEEDS_DATA = ("factors",)
LANE_TASKS = (*TASKS, *OTHERS)


def lane_task(name):
    return OTHERS[name]() if name in OTHERS else get(name)
