#!/usr/bin/env python3
"""Measures what the demo should show, with transformers and peft: majority, frozen, adapted.

    python check.py sentiment            # majority, frozen head, LoRA; three seeds
    python check.py ner                  # frozen and LoRA taggers, causal and bidirectional; three seeds

Measured with torch 2.15.0, transformers 5.23.0, peft 0.21.2, safetensors 0.8.0,
seqeval 1.2.2, all in f32 on CPU from the bf16 weights.
"""

import argparse
import random
import time
from collections import Counter
from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2
from transformers import AutoConfig, AutoTokenizer, LlamaForSequenceClassification, LlamaForTokenClassification
from transformers.utils import logging

import make_text

HERE = Path(__file__).resolve().parent
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PAD = 0  # <unk>: with byte fallback no text produces it


def sentiment_rows(split):
    lines = (HERE / "sentiment" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split("\t") for line in lines]


def ner_rows(split):
    blocks = (HERE / "ner" / f"{split}.conll").read_text(encoding="utf-8").strip().split("\n\n")
    return [tuple(zip(*(line.split("\t") for line in block.split("\n")))) for block in blocks]


def encode_words(tokenizer, tokens):
    """Ids of the sentence, and the position of each word's first sub-word."""
    text, starts = " ".join(tokens), []
    encoding = tokenizer(text, return_offsets_mapping=True)
    at = 0
    for token in tokens:
        # A leading ▁ carries the offset of the space before its word.
        starts.append(next(i for i, (s, e) in enumerate(encoding.offset_mapping) if e > at and e > s))
        at += len(token) + 1
    return encoding.input_ids, starts


def pad(rows, value):
    width = max(map(len, rows))
    return torch.tensor([list(r) + [value] * (width - len(r)) for r in rows])


def batches(examples, size, rng=None):
    order = list(range(len(examples)))
    if rng:
        rng.shuffle(order)
    for i in range(0, len(order), size):
        part = [examples[j] for j in order[i:i + size]]
        ids = pad([p[0] for p in part], PAD)
        mask = pad([[1] * len(p[0]) for p in part], 0)
        labels = torch.tensor([p[1] for p in part]) if isinstance(part[0][1], int) else pad([p[1] for p in part], -100)
        yield {"input_ids": ids, "attention_mask": mask}, labels


def build(kind, model_dir, labels, args, seed, adapted, bidirectional):
    torch.manual_seed(seed)
    config = AutoConfig.from_pretrained(model_dir)
    config.num_labels, config.pad_token_id = labels, PAD
    if bidirectional:
        config.is_causal = False
    model = kind.from_pretrained(model_dir, config=config, dtype=torch.float32)
    if adapted:
        task = TaskType.SEQ_CLS if kind is LlamaForSequenceClassification else TaskType.TOKEN_CLS
        model = get_peft_model(model, LoraConfig(task_type=task, r=args.r, lora_alpha=args.alpha,
                                                 lora_dropout=args.dropout, target_modules=LINEAR))
    else:
        for name, p in model.named_parameters():
            p.requires_grad = name.startswith("score")
    return model


def fit(model, examples, args, seed, lr, epochs):
    """AdamW, linear decay without warm-up, clip 1.0."""
    rng = random.Random(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    total, step, start = epochs * -(-len(examples) // args.batch), 0, time.time()
    model.train()
    for _ in range(epochs):
        for inputs, labels in batches(examples, args.batch, rng):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - step / total)
            loss = model(**inputs, labels=labels).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
    return time.time() - start


@torch.no_grad()
def predict(model, examples):
    model.eval()
    out = []
    for inputs, _ in batches(examples, 64):
        out += model(**inputs).logits.argmax(-1).tolist()
    return out


def report(name, scores, seconds):
    columns = ["  ".join(f"{100 * s:5.1f}" for s in column) for column in zip(*scores)]
    means = [f"{100 * sum(c) / len(c):5.1f}" for c in zip(*scores)]
    print(f"| {name:28} | " + " | ".join(f"{c} -> {m}" for c, m in zip(columns, means)) + f" | {seconds:5.1f} s |", flush=True)


def sentiment(args, tokenizer):
    data = {s: [(tokenizer(t).input_ids, int(y == "positive")) for t, y in sentiment_rows(s)]
            for s in ("train", "validation", "test")}
    novel = [n for *_, n in make_text.sentiment_splits()["test"]]
    gold = [y for _, y in data["test"]]
    major = Counter(y for _, y in data["train"]).most_common(1)[0][0]
    print("| run | validation accuracy | test accuracy | test, familiar only | test, with test-only entries | training |")
    report("majority class", [[sum(y == major for _, y in data["validation"]) / len(data["validation"]),
                               sum(y == major for y in gold) / len(gold),
                               sum(y == major for y, n in zip(gold, novel) if not n) / novel.count(False),
                               sum(y == major for y, n in zip(gold, novel) if n) / novel.count(True)]], 0)
    for name, adapted, lr in (("frozen, head only", False, args.frozen_lr), ("LoRA", True, args.lr)):
        scores, seconds = [], 0
        for seed in args.seeds:
            model = build(LlamaForSequenceClassification, args.model, 2, args, seed, adapted, False)
            seconds = fit(model, data["train"], args, seed, lr, args.epochs)
            guess = predict(model, data["test"])
            right = [a == b for a, b in zip(guess, gold)]
            check = predict(model, data["validation"])
            scores.append([sum(a == y for a, (_, y) in zip(check, data["validation"])) / len(check),
                           sum(right) / len(right),
                           sum(r for r, n in zip(right, novel) if not n) / novel.count(False),
                           sum(r for r, n in zip(right, novel) if n) / novel.count(True)])
        report(name, scores, seconds)
        if adapted and args.show:
            for (text, y), ok in zip(sentiment_rows("test"), right):
                print(" " if ok else "X", y, text)
            texts = [line.strip() for line in args.show.read_text(encoding="utf-8").splitlines()]
            for text, g in zip(texts, predict(model, [(tokenizer(t).input_ids, 0) for t in texts])):
                print("?", ["negative", "positive"][g], text)


def ner(args, tokenizer):
    rows = {s: ner_rows(s) for s in ("train", "validation", "test")}
    tags = sorted({t for _, ts in rows["train"] for t in ts})
    data = {}
    for split, sentences in rows.items():
        data[split] = []
        for tokens, gold in sentences:
            ids, starts = encode_words(tokenizer, tokens)
            labels = [-100] * len(ids)
            for at, tag in zip(starts, gold):
                labels[at] = tags.index(tag)
            data[split].append((ids, labels))
    novel = [n for _, n in make_text.ner_splits()["test"]]
    print("| run | validation F1 | test F1 | test, familiar only | test, with test-only entries | training |")
    for name, adapted, both, lr in (("frozen, causal", False, False, args.frozen_lr),
                                    ("frozen, bidirectional", False, True, args.frozen_lr),
                                    ("LoRA, causal", True, False, args.lr), ("LoRA, bidirectional", True, True, args.lr)):
        scores, seconds = [], 0
        for seed in args.seeds:
            model = build(LlamaForTokenClassification, args.model, len(tags), args, seed, adapted, both)
            seconds = fit(model, data["train"], args, seed, lr, args.epochs)
            score = []
            for split in ("validation", "test"):
                guess = [[tags[p] for p, y in zip(g, y) if y != -100]
                         for g, (_, y) in zip(predict(model, data[split]), data[split])]
                gold = [list(t) for _, t in rows[split]]
                score.append(f1_score(gold, guess, mode="strict", scheme=IOB2))
            for wanted in (False, True):
                score.append(f1_score([t for t, n in zip(gold, novel) if n == wanted],
                                      [t for t, n in zip(guess, novel) if n == wanted], mode="strict", scheme=IOB2))
            scores.append(score)
        report(name, scores, seconds)
        if args.show and both and adapted:
            for (tokens, gold), g in zip(rows["test"], guess):
                if list(gold) != g:
                    print("X", " ".join(t if y == "O" == p else f"{t}/{y}/{p}" for t, y, p in zip(tokens, gold, g)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["sentiment", "ner"])
    parser.add_argument("--model", type=Path, default=HERE / "model")
    parser.add_argument("--r", type=int, default=8)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--frozen-lr", type=float, default=1e-2)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", type=Path, help="also predict the lines of this file and list the test's mistakes")
    args = parser.parse_args()
    args.epochs = args.epochs or {"sentiment": 4, "ner": 6}[args.task]
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    {"sentiment": sentiment, "ner": ner}[args.task](args, AutoTokenizer.from_pretrained(args.model))


if __name__ == "__main__":
    main()
