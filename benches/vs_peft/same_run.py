#!/usr/bin/env python3
"""Repeats a finished run of this project with transformers + peft: the same data, model and settings.

    python same_run.py RUN_DIR --seed 1 --out peft.json

RUN_DIR/config.toml, the resolved configuration, says what to do. A setting that this script does not
know how to repeat is an error, not a guess; but for train.group_by_length, of which it tells. Weights are f32, batches are drawn by seed and padded to
their longest row, inputs are cut at data.max_length. Each epoch is scored on the validation split;
the best one is scored on the test split. train_seconds are of the clock, without the scoring.
"""

import argparse
import json
import math
import statistics
import time
from pathlib import Path

from common import peak_rss_mib, shuffled, unused_id, versions
from run_data import is_token, settings_of, splits

import torch
from peft import LoraConfig, get_peft_model
from seqeval.metrics import f1_score
from sklearn.metrics import accuracy_score, f1_score as class_f1
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, get_scheduler
from transformers import AutoModelForTokenClassification


def pieces(offsets, words, last):
    """The place of the first (or last) sub-word that shares a character with each word; None where it was cut."""
    places, start = [], 0
    for word in words:
        end = start + len(word)
        found = [at for at, (a, b) in enumerate(offsets) if max(a, start) < min(b, end)]
        places.append(found[-1 if last else 0] if found else None)
        start = end + 1
    return places


class MeanPooled(torch.nn.Module):
    """A sequence classifier that averages the hidden states of the real tokens; transformers has none."""

    def __init__(self, path, config):
        super().__init__()
        self.config = config
        self.model = AutoModel.from_pretrained(path, config=config, dtype=torch.float32)
        self.score = torch.nn.Linear(config.hidden_size, config.num_labels, bias=False)
        torch.nn.init.normal_(self.score.weight, std=config.initializer_range)

    def forward(self, input_ids, attention_mask, **_):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        mask = attention_mask.unsqueeze(-1).float()
        return self.score((hidden * mask).sum(1) / mask.sum(1))


class Stock(torch.nn.Module):
    """transformers' own classifier; gives logits."""

    def __init__(self, auto, path, config):
        super().__init__()
        self.inner = auto.from_pretrained(path, config=config, dtype=torch.float32)

    def forward(self, **inputs):
        return self.inner(**inputs, use_cache=False).logits


def unmasked(mode, layers):
    """Whether each layer is bidirectional, as the README explains the modes."""
    kind, _, rest = mode.partition(":")
    if kind in ("causal", "bidirectional"):
        return [kind == "bidirectional"] * layers
    if kind == "from":
        return [at >= int(rest) for at in range(layers)]
    if kind == "groups":
        return [rest[at * len(rest) // layers] == "1" for at in range(layers)]
    ranges = [(int(first), int(last or first)) for first, _, last in (part.partition("-") for part in rest.split(","))]
    return [any(first <= at <= last for first, last in ranges) for at in range(layers)]


def unmask(model, bidirectional):
    """Lets the chosen layers see every token; transformers has one mask for all."""
    decoder, real = next(part for part in model.modules() if hasattr(part, "layers")), {}
    remember = lambda _, args, kwargs: real.update(mask=kwargs["attention_mask"][:, None, None, :].bool())
    decoder.register_forward_pre_hook(remember, with_kwargs=True)

    def everywhere(_, args, kwargs):
        length = real["mask"].shape[-1]
        return args, {**kwargs, "attention_mask": real["mask"].expand(-1, 1, length, length)}

    for layer, chosen in zip(decoder.layers, bidirectional):
        if chosen:
            layer.register_forward_pre_hook(everywhere, with_kwargs=True)


def build(settings, labels, pad_id, token):
    path = settings["model.path"]
    config = AutoConfig.from_pretrained(path, num_labels=labels, pad_token_id=pad_id)
    bidirectional = unmasked(settings["model.attention"], config.num_hidden_layers)
    if all(bidirectional):
        config.is_causal = False
    if "model.classifier_dropout" in settings:
        config.classifier_dropout = settings["model.classifier_dropout"]
    if token:
        model = Stock(AutoModelForTokenClassification, path, config)
    elif settings["model.pooling"] == "mean":
        model = MeanPooled(path, config)
    else:
        model = Stock(AutoModelForSequenceClassification, path, config)
    if any(bidirectional) and not all(bidirectional):
        if getattr(config, "sliding_window", None):
            raise SystemExit(f"{path}: a mask by layers is not repeated here where layers have a sliding window")
        unmask(model, bidirectional)
    targets = settings["lora.target_modules"]
    if targets == "all-linear":
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    elif isinstance(targets, str):  # a pattern for the model's names, which Stock puts a part before
        targets = rf"(?:inner\.)?(?:{targets})"
    lora = LoraConfig(
        r=settings["lora.r"],
        lora_alpha=settings["lora.lora_alpha"],
        lora_dropout=settings["lora.lora_dropout"],
        use_dora=settings.get("lora.use_dora", False),
        use_rslora=settings.get("lora.use_rslora", False),
        target_modules=targets,
        modules_to_save=["score"],
    )
    return get_peft_model(model, lora)


def padded(rows, pad_id):
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    settings, token = settings_of(args.run), is_token(args.run)
    if settings["train.group_by_length"]:
        print("train.group_by_length is not repeated: batches are of any lengths", flush=True)
    rows, reported = splits(settings, token, args.seed)

    tokenizer = AutoTokenizer.from_pretrained(settings["model.path"])
    most, data = settings["data.max_length"], {}
    if token:
        names = sorted({tag for _, tags in rows["train"] for tag in tags}, key=lambda tag: (tag != "O", tag[2:], tag))
    else:
        names = sorted({label for _, label in rows["train"]})
    for split, examples in rows.items():
        joined = [" ".join(words) for words, _ in examples] if token else [text for text, _ in examples]
        encoded = tokenizer(joined, return_offsets_mapping=True)
        if settings["data.long_inputs"] == "window" and max(map(len, encoded["input_ids"])) > most:
            raise SystemExit(f"{args.run}: {split} has inputs over {most} tokens, and windows are not repeated here")
        data[split] = [
            {"ids": ids[:most], "gold": gold, "places": pieces(offsets[:most], source, settings["data.label_position"] == "last") if token else None}
            for ids, offsets, (source, gold) in zip(encoded["input_ids"], encoded["offset_mapping"], examples)
        ]
    pad_id = unused_id(tokenizer, {id for split in data.values() for row in split for id in row["ids"]})
    model = build(settings, len(names), pad_id, token)

    count, size = len(data["train"]), settings["train.micro_batch_size"]
    accumulate, epochs = settings["train.gradient_accumulation_steps"], settings["train.epochs"]
    steps = epochs * -(-(-(-count // size)) // accumulate)
    trainable = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    decays = lambda name: not (name.endswith("bias") or "norm" in name)
    optimizer = torch.optim.AdamW(
        [
            {"params": [w for n, w in trainable if decays(n)], "weight_decay": settings["train.weight_decay"]},
            {"params": [w for n, w in trainable if not decays(n)], "weight_decay": 0.0},
        ],
        lr=settings["train.learning_rate"],
        betas=(settings["train.adam_beta1"], settings["train.adam_beta2"]),
        eps=settings["train.adam_epsilon"],
    )
    warmup = settings["train.warmup_steps"] or math.ceil(settings["train.warmup_ratio"] * steps)
    # Of transformers' two constant rates the plain one knows no warm-up.
    name = settings["train.lr_scheduler"].replace("constant", "constant_with_warmup")
    schedule = get_scheduler(name, optimizer, warmup, steps)

    def loss_of(batch):
        logits = model(**padded([row["ids"] for row in batch], pad_id))
        if not token:
            return torch.nn.functional.cross_entropy(logits, torch.tensor([names.index(row["gold"]) for row in batch]))
        labels = torch.full(logits.shape[:2], -100)
        for line, row in enumerate(batch):
            for at, tag in zip(row["places"], row["gold"]):
                if at is not None:
                    labels[line, at] = names.index(tag)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())

    @torch.no_grad()
    def score(split):
        model.eval()
        found = [None] * len(split)
        order = sorted(range(len(split)), key=lambda at: len(split[at]["ids"]))
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            best = model(**padded([split[at]["ids"] for at in part], pad_id)).argmax(-1).tolist()
            for at, answer in zip(part, best):
                places = split[at]["places"]
                found[at] = [names[answer[p]] if p is not None else "O" for p in places] if token else names[answer]
        gold = [row["gold"] for row in split]
        if token:
            return {"span_f1_micro": float(f1_score(gold, found, zero_division=0))}
        return {"accuracy": accuracy_score(gold, found), "f1_macro": float(class_f1(gold, found, average="macro"))}

    metric = settings["train.metric_for_best_model"]
    # 0 is no limit for us, and one that leaves nothing for torch.
    limit = settings["train.max_grad_norm"] or math.inf
    seconds, best, kept, losses, history = 0.0, -1.0, None, [], []
    for epoch in range(1, epochs + 1):
        model.train()
        began, order = time.perf_counter(), shuffled(count, args.seed, epoch)
        batches = [[data["train"][at] for at in order[start : start + size]] for start in range(0, count, size)]
        for start in range(0, len(batches), accumulate):
            if start % 50 == 0:
                print(f"epoch {epoch}: {start} of {len(batches)} batches", flush=True)
            group = batches[start : start + accumulate]
            for batch in group:
                loss = loss_of(batch) / len(group)
                loss.backward()
                losses.append(loss.item() * len(group))
            torch.nn.utils.clip_grad_norm_([weight for _, weight in trainable], limit)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        seconds += time.perf_counter() - began
        value = score(data["validation"])[metric]
        history.append(value)
        print(f"epoch {epoch}: {seconds:.0f} s, loss {statistics.mean(losses[-100:]):.4f}, validation {value:.4f}", flush=True)
        if value > best:
            best, kept = value, {name: weight.detach().clone() for name, weight in trainable}
    model.load_state_dict(kept, strict=False)
    record = {
        "side": "transformers + peft",
        "config": (args.run / "config.toml").read_text(),
        "versions": versions(),
        "seed": args.seed,
        "threads": args.threads,
        "metric": metric,
        "split": reported,
        "scores": score(data[reported]),
        "validation": history,
        "train_seconds": seconds,
        "peak_rss_mib": peak_rss_mib(),
        "sizes": {split: len(found) for split, found in data.items()},
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["scores"]))


if __name__ == "__main__":
    main()
