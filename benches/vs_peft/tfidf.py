#!/usr/bin/env python3
"""The score of a linear model over n-grams on the data of a finished run, by scikit-learn: what a classifier has without a
language model.

    python tfidf.py RUN_DIR --seed 1 --out tfidf.json

Sequences: TF-IDF of words and pairs of words, logistic regression. Tags: each word's own form, affixes and shape and those of
its neighbours, logistic regression, each word by itself. The validation split chooses the regularisation.
"""

import argparse
import json
import re
import time
from pathlib import Path

from run_data import is_token, settings_of, splits

import sklearn
from seqeval.metrics import f1_score
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.metrics import f1_score as class_f1

STRENGTHS = [1.0, 3.0, 10.0, 30.0]


def shape(word):
    return re.sub(r"(.)\1+", r"\1", re.sub(r"\d", "0", re.sub(r"[^\W\d_]", lambda c: "X" if c[0].isupper() else "x", word)))


def features(words, at):
    found = {"first": at == 0}
    for step in (-2, -1, 0, 1, 2):
        word = words[at + step] if 0 <= at + step < len(words) else ""
        found[f"{step} word"], found[f"{step} shape"] = word.lower(), shape(word)
    for length in (1, 2, 3):
        found[f"prefix {length}"], found[f"suffix {length}"] = words[at][:length].lower(), words[at][-length:].lower()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    settings, token = settings_of(args.run), is_token(args.run)
    rows, reported = splits(settings, token, args.seed)
    began = time.perf_counter()

    if token:
        vectors = DictVectorizer()
        places = lambda split: [features(words, at) for words, _ in rows[split] for at in range(len(words))]
        gold = {split: [tag for _, tags in found for tag in tags] for split, found in rows.items()}
    else:
        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")
        places = lambda split: [text for text, _ in rows[split]]
        gold = {split: [label for _, label in found] for split, found in rows.items()}
    inputs = {"train": vectors.fit_transform(places("train"))}
    inputs |= {split: vectors.transform(places(split)) for split in {"validation", reported}}

    def scores(model, split):
        answers = list(model.predict(inputs[split]))
        if not token:
            macro = class_f1(gold[split], answers, average="macro")
            return {"accuracy": accuracy_score(gold[split], answers), "f1_macro": float(macro)}
        answers = iter(answers)
        found = [[next(answers) for _ in words] for words, _ in rows[split]]
        return {"span_f1_micro": float(f1_score([tags for _, tags in rows[split]], found, zero_division=0))}

    metric = settings["train.metric_for_best_model"]
    models = [LogisticRegression(C=strength, max_iter=1000).fit(inputs["train"], gold["train"]) for strength in STRENGTHS]
    model = max(models, key=lambda model: scores(model, "validation")[metric])
    record = {
        "side": "n-grams, linear",
        "config": (args.run / "config.toml").read_text(),
        "versions": {"scikit-learn": sklearn.__version__},
        "seed": args.seed,
        "metric": metric,
        "split": reported,
        "scores": scores(model, reported),
        "train_seconds": time.perf_counter() - began,
        "C": model.C,
        "sizes": {split: len(found) for split, found in rows.items()},
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["scores"]))


if __name__ == "__main__":
    main()
