"""What the programs beside this one share: versions, peak memory, an id for padding, optimizer, order."""

import os
import random
import re
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft
import torch
import transformers
from transformers import get_linear_schedule_with_warmup

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore", category=FutureWarning)


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


def shuffled(count, seed, epoch):
    order = list(range(count))
    random.Random(1000 * seed + epoch).shuffle(order)
    return order
