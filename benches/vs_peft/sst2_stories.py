#!/usr/bin/env python3
"""Sentence classification with transformers + peft, for comparison side by side.

    python sst2_stories.py --model MODEL_DIR --data DATA_DIR --out sst2.json

DATA_DIR holds train.tsv and dev.tsv: text, tab, label as an integer; no header. Stock
LlamaForSequenceClassification: causal, last token. The JSON has one entry per seed and epoch.
"""

import torch
from peft import TaskType

from common import (
    AutoTokenizer,
    arguments,
    batches,
    build,
    inputs,
    optimizer_and_schedule,
    peak_rss_mib,
    settings,
    shuffled,
    train_epoch,
    unused_id,
    versions,
    write,
)


def read(path):
    rows = [line.rstrip("\n").rsplit("\t", 1) for line in path.open(encoding="utf-8") if line.strip()]
    return [text for text, _ in rows], [int(label) for _, label in rows]


@torch.no_grad()
def accuracy(args, model, ids, labels, pad_id):
    model.eval()
    right = 0
    # Sorted by length: the result does not depend on it, the time does.
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for rows in batches(order, args.eval_batch_size):
        logits = model(**inputs([ids[row] for row in rows], pad_id), use_cache=False).logits
        right += int((logits.argmax(-1) == torch.tensor([labels[row] for row in rows])).sum())
    return right / len(ids)


def main():
    args = arguments(__doc__.split("\n")[0]).parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    ids, labels, cut = {}, {}, {}
    for split in ("train", "dev"):
        texts, labels[split] = read(args.data / f"{split}.tsv")
        whole = tokenizer(texts)["input_ids"]
        cut[split] = sum(len(row) > args.max_length for row in whole)
        ids[split] = [row[: args.max_length] for row in whole]
    pad_id = unused_id(tokenizer, {token for split in ids.values() for row in split for token in row})
    num_labels = max(labels["train"]) + 1
    sizes = {split: len(rows) for split, rows in ids.items()}
    start_rss = peak_rss_mib()
    print(f"examples {sizes}, cut {cut}, pad id {pad_id}, memory before the model {start_rss:.0f} MiB", flush=True)

    runs = []
    for seed in args.seeds:
        torch.manual_seed(seed)
        model = build(args, TaskType.SEQ_CLS, num_labels, pad_id)
        trainable, everything = model.get_nb_trainable_parameters()
        count = len(ids["train"])
        steps = args.epochs * -(-count // args.batch_size)
        optimizer, schedule = optimizer_and_schedule(args, model, steps)

        def batch_of(rows):
            batch = inputs([ids["train"][row] for row in rows], pad_id)
            return {**batch, "labels": torch.tensor([labels["train"][row] for row in rows])}

        epochs = []
        for epoch in range(1, args.epochs + 1):
            order = shuffled(count, seed, epoch)
            seconds, loss, tokens = train_epoch(args, model, optimizer, schedule, order, batch_of)
            epochs.append(
                {
                    "epoch": epoch,
                    "train_seconds": seconds,
                    "tokens_per_second": tokens / seconds,
                    "train_loss": loss,
                    "dev_accuracy": accuracy(args, model, ids["dev"], labels["dev"], pad_id),
                    "peak_rss_mib": peak_rss_mib(),
                }
            )
            print(
                "seed {} epoch {epoch}: {train_seconds:.1f} s, {tokens_per_second:.0f} tokens/s, loss {train_loss:.4f}, "
                "dev accuracy {dev_accuracy:.4f}, peak {peak_rss_mib:.0f} MiB".format(seed, **epochs[-1]),
                flush=True,
            )
        runs.append({"seed": seed, "trainable": trainable, "parameters": everything, "epochs": epochs})
    mean = [sum(run["epochs"][e]["dev_accuracy"] for run in runs) / len(runs) for e in range(args.epochs)]
    seconds = sum(epoch["train_seconds"] for run in runs for epoch in run["epochs"]) / (len(runs) * args.epochs)
    print(f"mean dev accuracy per epoch {[round(value, 4) for value in mean]}, mean epoch {seconds:.1f} s")
    write(
        args,
        {
            "versions": versions(),
            "settings": settings(args),
            "examples": sizes,
            "cut": cut,
            "pad_token_id": pad_id,
            "rss_before_model_mib": start_rss,
            "runs": runs,
            "mean_dev_accuracy": mean,
            "mean_epoch_seconds": seconds,
        },
    )


if __name__ == "__main__":
    main()
