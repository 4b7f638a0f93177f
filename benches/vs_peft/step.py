#!/usr/bin/env python3
"""A training step or an inference pass with transformers + peft, as one JSON line: the other side of ls-bench-step.

    python step.py train --model OUT/model --adapter OUT/adapter

The arguments, the batch and the line are those of benches/src/bin/step.rs. Both make their tensors from lists of ids
within the measured time, as a training loop does.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification

from common import peak_rss_mib, versions

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("what", choices=["train", "infer"])
    add("--model", type=Path, required=True, help="Hugging Face folder of the decoder")
    add("--adapter", type=Path, required=True, help="PEFT folder with the head in it")
    add("--dtype", choices=DTYPES, default="f32", help="of the frozen weights")
    add("--rows", type=int, default=8)
    add("--length", type=int, default=64, help="tokens of a row")
    add("--gradient-checkpointing", action="store_true", help="compute each block again in the backward pass")
    add("--warmup", type=int, default=2, help="iterations before the ones that count")
    add("--iterations", type=int, default=7)
    add("--threads", type=int, default=os.cpu_count())
    return parser.parse_args()


def ids(rows, length, vocabulary):
    """The batch of ls_benches::batch."""
    return [[(row * 1009 + at * 7919 + 3) % vocabulary for at in range(length)] for row in range(rows)]


def unused(rows, vocabulary):
    """An id that is in no row: transformers takes the last token that is not padding."""
    used = {token for row in rows for token in row}
    return next(token for token in range(vocabulary) if token not in used)


def load(args, pad_id):
    config = AutoConfig.from_pretrained(args.model)
    config.pad_token_id = pad_id
    # The number of classes is the adapter's: its head takes the place of the one made here.
    config.num_labels = head_rows(args.adapter)
    base = AutoModelForSequenceClassification.from_pretrained(
        args.model, config=config, dtype=DTYPES[args.dtype], attn_implementation="sdpa"
    )
    return PeftModel.from_pretrained(base, args.adapter, is_trainable=args.what == "train")


def head_rows(adapter):
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as file:
        name = next(name for name in file.keys() if name.endswith("score.weight"))
        return file.get_slice(name).get_shape()[0]


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    vocabulary = AutoConfig.from_pretrained(args.model).vocab_size
    rows = ids(args.rows, args.length, vocabulary)
    libraries = peak_rss_mib()
    model = load(args, unused(rows, vocabulary))
    targets = [row % model.config.num_labels for row in range(args.rows)]

    def forward():
        batch = torch.tensor(rows)
        logits = model(input_ids=batch, attention_mask=torch.ones_like(batch), use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float(), torch.tensor(targets))

    grad_norm = None
    if args.what == "train":
        model.train()
        if args.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        trainable = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trainable, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    else:
        model = model.merge_and_unload().eval()
    loaded = peak_rss_mib()

    seconds, losses = [], []
    for at in range(args.warmup + args.iterations):
        started = time.perf_counter()
        if args.what == "train":
            loss = forward()
            value = loss.item()
            loss.backward()
            if at == 0:
                # Only here, where the time does not count when there is a warm-up.
                grad_norm = torch.nn.utils.get_total_norm([weight.grad for weight in trainable]).item()
            optimizer.step()
            optimizer.zero_grad()
        else:
            with torch.no_grad():
                value = forward().item()
        if at >= args.warmup:
            seconds.append(time.perf_counter() - started)
        losses.append(value)
    print(
        json.dumps(
            {
                "what": args.what,
                "dtype": args.dtype,
                "rows": args.rows,
                "length": args.length,
                "seconds": seconds,
                "losses": losses,
                "grad_norm": grad_norm,
                "peak_rss_mib": peak_rss_mib(),
                "peak_rss_loaded_mib": loaded,
                "peak_rss_libraries_mib": libraries,
                "threads": torch.get_num_threads(),
                "versions": versions(),
            }
        )
    )


if __name__ == "__main__":
    main()
