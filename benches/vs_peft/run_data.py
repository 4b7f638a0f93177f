"""What a finished run of this project says of its settings, and the splits that it read."""

import csv
import json
import random
import tomllib
from pathlib import Path

# What a run may say besides, because it changes no result or nothing that is compared.
IGNORED = {
    "run", "task", "data.dataset", "data.dir", "model.path", "model.dtype", "model.hash_weights", "data.cache",
    "data.padding_side", "data.offsets", "data.bad_spans", "data.stride", "data.first_label", "data.labels", "train.baselines",
    "train.save_seconds",
    "train.save_steps", "train.save_total_limit", "train.report", "train.tensorboard", "train.seed", "train.gradient_checkpointing", "train.skip_nonfinite_steps", "train.eval_batch_size", "train.pass_size",
}
# What it may say in one way alone.
FIXED = {
    "model.quantization": ["none"], "train.label_smoothing_factor": [0.0], "train.focal_gamma": [0.0], "train.temperature_scaling": [False],
    "lora.init_lora_weights": [True], "lora.bias": ["none"], "lora.modules_to_save": [[]], "lora.use_dora": [False, True],
    "lora.use_rslora": [False, True], "data.long_inputs": ["truncate", "window"],
    "data.protocol": ["strict"], "data.padding": ["masked"], "data.words": ["text"], "data.special_tokens": ["text"], "data.skip_bad_rows": [False],
    "train.layerwise_lr_decay": [1.0], "data.label_position": ["first", "first_visible", "last"],
    "model.pooling": ["last", "mean"],
}  # fmt: skip
USED = {
    "model.attention",
    "lora.r", "lora.lora_alpha", "lora.lora_dropout", "lora.target_modules", "model.classifier_dropout", "data.train",
    "data.validation", "data.test", "data.validation_fraction", "data.header", "data.text", "data.text_append", "data.label",
    "data.max_length", "train.epochs", "train.micro_batch_size", "train.gradient_accumulation_steps",
    "train.group_by_length",
    "train.learning_rate", "train.lr_scheduler", "train.warmup_steps", "train.warmup_ratio", "train.weight_decay",
    "train.adam_beta1", "train.adam_beta2", "train.adam_epsilon", "train.max_grad_norm",
}  # fmt: skip


# The metrics that choose the best epoch, for tags and for texts.
METRICS = {True: ["span_f1_micro"], False: ["accuracy", "f1_macro"]}


def flat(table, before=""):
    for key, value in table.items():
        yield from flat(value, f"{before}{key}.") if isinstance(value, dict) else [(before + key, value)]


def settings_of(run):
    settings = dict(flat(tomllib.loads((run / "config.toml").read_text())))
    fixed = FIXED | {"train.metric_for_best_model": METRICS[is_token(run)]}
    for key, value in settings.items():
        if key in fixed and value not in fixed[key]:
            raise SystemExit(f"{run}/config.toml: {key} = {value!r} is not repeated here, only {fixed[key]}")
        if key not in fixed and key not in USED and key not in IGNORED:
            raise SystemExit(f"{run}/config.toml: {key} is not repeated here")
    if "data.dataset" in settings:
        settings |= of_form(settings, json.loads((run / "report.json").read_text())["form"])
    return settings


def of_form(settings, name):
    """Files and columns of a known data set, in the form in which the run found it."""
    description = Path(__file__).parents[2] / "datasets" / f"{settings['data.dataset']}.toml"
    form = next(form for form in tomllib.loads(description.read_text())["forms"] if form["name"] == name)
    if form["format"] not in ("csv", "tsv", "conll"):
        raise SystemExit(f"{description}: files of the form {name!r} are not read here")
    found = {"data.header": form.get("header", True), "data.text_append": form.get("text_append", [])}
    found |= {f"data.{key}": form[key] for key in ("text", "label") if key in form}
    for split, source in form["splits"].items():
        paths = [path for pattern in source["files"] for path in sorted(Path(settings["data.dir"]).glob(pattern))]
        if paths and source.get("labelled", True):
            found[f"data.{split}"] = paths[0]
    return found


def texts(path, settings):
    """Rows (text, label) of a CSV or TSV file."""
    tabs = Path(path).suffix == ".tsv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t" if tabs else ",", quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL)
        rows = [row for row in rows if row]
    columns = [settings["data.label"], settings["data.text"], *settings["data.text_append"]]
    if settings["data.header"]:
        head = rows.pop(0)
        columns = [head.index(name) if isinstance(name, str) else name for name in columns]
    label, *text = columns
    return [(" ".join(row[column] for column in text), row[label]) for row in rows]


def sentences(path):
    """Rows (words, tags) of a CoNLL file: word, white space, tag; an empty line ends a sentence."""
    rows, words, tags = [], [], []
    for line in [*open(path, encoding="utf-8"), ""]:
        line = line.replace("\ufeff", "").strip()
        if line:
            word, *_, tag = line.split()
            words.append(word)
            tags.append(tag)
        elif words:
            rows.append((words, tags))
            words, tags = [], []
    return rows


def is_token(run):
    return tomllib.loads((run / "config.toml").read_text())["task"] == "token"


def splits(settings, token, seed):
    """The splits' rows by name, and the name of the one that is reported; a part of train chooses where nothing else does."""
    read = sentences if token else (lambda path: texts(path, settings))
    rows = {split: read(settings[f"data.{split}"]) for split in ("train", "validation", "test") if f"data.{split}" in settings}
    if "validation" not in rows:
        random.Random(seed).shuffle(rows["train"])
        count = max(1, round(settings["data.validation_fraction"] * len(rows["train"])))
        rows["validation"], rows["train"] = rows["train"][:count], rows["train"][count:]
    return rows, "test" if "test" in rows else "validation"
