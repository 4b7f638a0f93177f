#!/usr/bin/env python3
"""An epoch with transformers + peft, a JSON line per step: the other side of epoch.sh.

    python epoch.py --model DIR --adapter DIR --data train.tsv --order order.json --padding max_length --metrics FILE

Batches, their order and the adapter to begin with are those that ls-bench-epoch wrote. `--padding max_length` pads every
batch to --max-length, as the published recipe does; `longest` to the longest of the batch.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer

from common import optimizer_and_schedule, peak_rss_mib, unused_id, versions
from step import load


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--model", type=Path, required=True, help="Hugging Face folder of the decoder")
    add("--adapter", type=Path, required=True, help="PEFT folder with the head in it")
    add("--data", type=Path, required=True, help="text, tab, label as an integer; no header")
    add("--order", type=Path, required=True, help="JSON of ls-bench-epoch")
    add("--padding", choices=["max_length", "longest"], required=True)
    add("--metrics", type=Path, required=True, help="JSON lines to write")
    add("--max-length", type=int, default=64)
    add("--lr", type=float, default=1e-4)
    add("--threads", type=int, default=os.cpu_count())
    parser.set_defaults(what="train", dtype="f32")
    return parser.parse_args()


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    rows = [line.rstrip("\n").rsplit("\t", 1) for line in args.data.open(encoding="utf-8") if line.strip()]
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    ids = [row[: args.max_length] for row in tokenizer([text for text, _ in rows])["input_ids"]]
    labels = [int(label) for _, label in rows]
    order = json.loads(args.order.read_text())
    if [len(row) for row in ids] != order["lengths"]:
        raise SystemExit("the two sides do not tokenise alike")
    pad_id = unused_id(tokenizer, {token for row in ids for token in row})
    libraries = peak_rss_mib()
    model = load(args, pad_id)
    model.train()
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer, schedule = optimizer_and_schedule(args, model, len(order["batches"]))

    def pad(batch, values, fill):
        width = args.max_length if args.padding == "max_length" else max(len(ids[row]) for row in batch)
        return torch.tensor([values(row) + [fill] * (width - len(ids[row])) for row in batch])

    with args.metrics.open("w", buffering=1) as metrics:
        for step, batch in enumerate(order["batches"], start=1):
            started = time.perf_counter()
            loss = model(
                input_ids=pad(batch, lambda row: ids[row], pad_id),
                attention_mask=pad(batch, lambda row: [1] * len(ids[row]), 0),
                labels=torch.tensor([labels[row] for row in batch]),
                use_cache=False,
            ).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            record = {"kind": "step", "step": step, "loss": loss.item()}
            print(json.dumps({**record, "seconds": time.perf_counter() - started}), file=metrics)
        peaks = {"peak_rss_mib": peak_rss_mib(), "peak_rss_libraries_mib": libraries}
        print(json.dumps({"kind": "end", **peaks, "versions": versions()}), file=metrics)


if __name__ == "__main__":
    main()
