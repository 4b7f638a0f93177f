"""What both runners share: model, adapter, batches, optimizer, peak memory."""

import argparse
import json
import os
import random
import re
import time
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def arguments(description, **defaults):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="Hugging Face folder of a LLaMA")
    add("--data", type=Path, required=True, help="folder with the splits")
    add("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    add("--epochs", type=int, default=defaults.get("epochs", 3))
    add("--batch-size", type=int, default=32)
    add("--eval-batch-size", type=int, default=64)
    add("--lr", type=float, default=1e-3)
    add("--max-length", type=int, default=128, help="sub-words kept, begin-of-text included")
    add("--r", type=int, default=8)
    add("--alpha", type=float, default=32)
    add("--dropout", type=float, default=0.1, help="of LoRA")
    add("--threads", type=int, default=2)
    add("--out", type=Path, help="JSON file to write")
    return parser


def versions():
    return {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


def peak_rss_mib():
    """Highest resident memory of this process so far (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def unused_id(tokenizer, used):
    """A pad id that occurs nowhere in the text."""
    for candidate in (tokenizer.pad_token_id, tokenizer.unk_token_id, *range(len(tokenizer))):
        if candidate is not None and candidate not in used:
            return candidate
    raise SystemExit("every id of the vocabulary occurs in the text: no pad id is left")


def build(args, task, num_labels, pad_id, is_causal=True):
    """Stock classifier in f32 with LoRA on every linear layer of the blocks; head and LoRA train."""
    config = AutoConfig.from_pretrained(args.model, num_labels=num_labels)
    config.pad_token_id = pad_id
    if not is_causal:
        config.is_causal = False
    auto = AutoModelForSequenceClassification if task == TaskType.SEQ_CLS else AutoModelForTokenClassification
    base = auto.from_pretrained(args.model, config=config, dtype=torch.float32)
    lora = LoraConfig(
        task_type=task, r=args.r, lora_alpha=args.alpha, lora_dropout=args.dropout, target_modules=LINEAR
    )
    model = get_peft_model(base, lora)
    assert all(weight.dtype == torch.float32 for weight in model.parameters() if weight.requires_grad)
    return model


def optimizer_and_schedule(args, model, steps):
    """AdamW with HF Trainer's rule (no decay on biases and norms), linear decay to zero."""
    trainable = [(key, weight) for key, weight in model.named_parameters() if weight.requires_grad]
    decays = lambda key: not (key.endswith("bias") or "norm" in key)
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for k, w in trainable if decays(k)], "weight_decay": 0.01},
            {"params": [w for k, w in trainable if not decays(k)], "weight_decay": 0.0},
        ],
        lr=args.lr,
    )
    return optimizer, get_linear_schedule_with_warmup(optimizer, 0, steps)


def batches(order, size):
    return [order[start : start + size] for start in range(0, len(order), size)]


def pad(rows, value):
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def inputs(rows, pad_id):
    ids = pad(rows, pad_id)
    return {"input_ids": ids, "attention_mask": pad([[1] * len(row) for row in rows], 0)}


def train_epoch(args, model, optimizer, schedule, order, batch_of):
    """One pass in the given order; returns seconds, mean loss and sub-words seen."""
    model.train()
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    started, total, tokens = time.perf_counter(), 0.0, 0
    for rows in batches(order, args.batch_size):
        batch = batch_of(rows)
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.item() * len(rows)
        tokens += int(batch["attention_mask"].sum())
    return time.perf_counter() - started, total / len(order), tokens


def shuffled(count, seed, epoch):
    order = list(range(count))
    random.Random(1000 * seed + epoch).shuffle(order)
    return order


def settings(args):
    return {key: value for key, value in vars(args).items() if key not in ("model", "data", "out")}


def write(args, record):
    if args.out:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
