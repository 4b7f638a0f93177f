#!/usr/bin/env python3
"""Named entities with transformers + peft, for comparison side by side.

    python wnut17_stories.py --model MODEL_DIR --data DATA_DIR --attention bidirectional --out wnut17.json

DATA_DIR holds train.conll, dev.conll and test.conll: word, tab, tag; an empty line ends a sentence.
Stock LlamaForTokenClassification. The words of a sentence are joined by single spaces; the label of
a word sits on the first sub-word that shares a character with it. The epoch with the best span F1 on
dev is scored on test. A word that was cut off counts as predicted O.
"""

import torch
from peft import TaskType
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from common import (
    AutoTokenizer,
    arguments,
    batches,
    build,
    inputs,
    optimizer_and_schedule,
    pad,
    peak_rss_mib,
    settings,
    shuffled,
    train_epoch,
    unused_id,
    versions,
    write,
)


def read(path):
    sentences, words, tags = [], [], []
    for line in [*path.open(encoding="utf-8"), ""]:
        line = line.replace("\ufeff", "")  # one file of WNUT 17 ends with a line that is only this
        if line.strip():
            word, tag = line.rstrip("\n").split("\t")
            words.append(word)
            tags.append(tag)
        elif words:
            sentences.append((words, tags))
            words, tags = [], []
    return sentences


def align(tokenizer, words, max_length):
    """Ids, and for each word the position of its first sub-word (None where it was cut off)."""
    encoded = tokenizer(" ".join(words), return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"][:max_length], encoded["offset_mapping"][:max_length]
    places, start = [], 0
    for word in words:
        end = start + len(word)
        shares = (at for at, (left, right) in enumerate(offsets) if max(left, start) < min(right, end))
        places.append(next(shares, None))
        start = end + 1
    return ids, places


@torch.no_grad()
def predict(args, model, split, tags, pad_id):
    model.eval()
    predicted = [None] * len(split)
    order = sorted(range(len(split)), key=lambda row: len(split[row]["ids"]))
    for rows in batches(order, args.eval_batch_size):
        best = model(**inputs([split[row]["ids"] for row in rows], pad_id), use_cache=False).logits.argmax(-1)
        for line, row in zip(best.tolist(), rows):
            predicted[row] = ["O" if at is None else tags[line[at]] for at in split[row]["places"]]
    return predicted


def scores(split, predicted):
    gold = [row["tags"] for row in split]
    return {
        "f1": float(f1_score(gold, predicted, zero_division=0)),
        "f1_strict": float(f1_score(gold, predicted, mode="strict", scheme=IOB2, zero_division=0)),
    }


def main():
    parser = arguments(__doc__.split("\n")[0], epochs=10)
    parser.add_argument("--attention", choices=["causal", "bidirectional"], default="bidirectional")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    data = {}
    for name in ("train", "dev", "test"):
        data[name] = []
        for words, gold in read(args.data / f"{name}.conll"):
            ids, places = align(tokenizer, words, args.max_length)
            data[name].append({"ids": ids, "places": places, "tags": gold})
    tags = sorted({tag for row in data["train"] for tag in row["tags"]}, key=lambda tag: (tag != "O", tag[2:], tag))
    pad_id = unused_id(tokenizer, {token for split in data.values() for row in split for token in row["ids"]})
    lost = {name: sum(at is None for row in split for at in row["places"]) for name, split in data.items()}
    sizes = {name: len(split) for name, split in data.items()}
    print(f"sentences {sizes}, words cut off {lost}, {len(tags)} tags, pad id {pad_id}", flush=True)
    for row in data["train"]:
        row["labels"] = [-100] * len(row["ids"])
        for at, tag in zip(row["places"], row["tags"]):
            if at is not None:
                row["labels"][at] = tags.index(tag)

    runs = []
    for seed in args.seeds:
        torch.manual_seed(seed)
        model = build(args, TaskType.TOKEN_CLS, len(tags), pad_id, is_causal=args.attention == "causal")
        count = len(data["train"])
        optimizer, schedule = optimizer_and_schedule(args, model, args.epochs * -(-count // args.batch_size))

        def batch_of(rows):
            rows = [data["train"][row] for row in rows]
            return {**inputs([row["ids"] for row in rows], pad_id), "labels": pad([row["labels"] for row in rows], -100)}

        epochs, best, kept = [], -1.0, None
        for epoch in range(1, args.epochs + 1):
            order = shuffled(count, seed, epoch)
            seconds, loss, tokens = train_epoch(args, model, optimizer, schedule, order, batch_of)
            dev = scores(data["dev"], predict(args, model, data["dev"], tags, pad_id))
            epochs.append(
                {
                    "epoch": epoch,
                    "train_seconds": seconds,
                    "tokens_per_second": tokens / seconds,
                    "train_loss": loss,
                    "dev": dev,
                    "peak_rss_mib": peak_rss_mib(),
                }
            )
            print(
                f"seed {seed} epoch {epoch}: {seconds:.1f} s, {tokens / seconds:.0f} tokens/s, loss {loss:.4f}, "
                f"dev F1 {dev['f1']:.4f} (strict {dev['f1_strict']:.4f}), peak {peak_rss_mib():.0f} MiB",
                flush=True,
            )
            if dev["f1"] > best:
                best = dev["f1"]
                kept = {key: w.detach().clone() for key, w in model.named_parameters() if w.requires_grad}
        model.load_state_dict(kept, strict=False)
        test = scores(data["test"], predict(args, model, data["test"], tags, pad_id))
        print(f"seed {seed}: best dev F1 {best:.4f}, test F1 {test['f1']:.4f} (strict {test['f1_strict']:.4f})", flush=True)
        runs.append({"seed": seed, "epochs": epochs, "best_dev_f1": best, "test": test})
    write(
        args,
        {
            "versions": versions(),
            "settings": settings(args),
            "sentences": sizes,
            "words_cut_off": lost,
            "pad_token_id": pad_id,
            "tags": tags,
            "runs": runs,
            "mean_test_f1": sum(run["test"]["f1"] for run in runs) / len(runs),
        },
    )


if __name__ == "__main__":
    main()
