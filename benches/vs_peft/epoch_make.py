#!/usr/bin/env python3
"""The data and the tokenizer of epoch.sh.

    python epoch_make.py SST2_DIR OUT MODEL_DIR [--steps N]

OUT gets train.tsv and dev.tsv: all of SST2_DIR's, or with --steps so many sentences, evenly spaced, that an epoch has N steps
of 8. MODEL_DIR gets the tokenizer: 32,000 entries as sentencepiece's (BPE with byte fallback), learned from the whole of
SST2_DIR's train.tsv and from the prose in Python's standard library.
"""

import argparse
import importlib.util
import shutil
import sysconfig
from pathlib import Path

ENTRIES = 32_000
ROWS = 8


def tokenizers_of_encode():
    """The module benches/encode/make.py, which knows how to make such tokenizers."""
    path = Path(__file__).resolve().parent.parent / "encode" / "make.py"
    spec = importlib.util.spec_from_file_location("encode_make", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spread(lines, count):
    return [lines[at * len(lines) // count] for at in range(min(count, len(lines)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = {}
    for split in ("train", "dev"):
        whole = [line for line in (args.data / f"{split}.tsv").open(encoding="utf-8") if line.strip()]
        lines[split] = whole
        part = whole
        if args.steps and args.steps * ROWS < len(lines["train"]):
            # The evaluation is not timed; it shrinks with the rest.
            part = spread(whole, args.steps * ROWS if split == "train" else 40)
        (args.out / f"{split}.tsv").write_text("".join(part), encoding="utf-8")

    made = args.model / "tokenizer_of_the_data"
    if not made.exists():
        encode = tokenizers_of_encode()
        texts = [line.rsplit("\t", 1)[0] for line in lines["train"]]
        encode.sentencepiece(texts + list(encode.paragraphs([sysconfig.get_path("stdlib")])), made)
        for file in (made / "sentencepiece").iterdir():
            shutil.copy(file, args.model / file.name)


if __name__ == "__main__":
    main()
