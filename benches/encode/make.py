"""A 32,000-entry tokenizer of each kind, and two files to encode with it.

    python make.py OUT FOLDER...

Text is collected from the .txt, .md, .rst, .py and .rs files below the folders: paragraphs of prose, each once. OUT gets
texts.jsonl (text, label), words.jsonl (tokens, tags), and the tokenizers sentencepiece/ (as LLaMA 2's: no pre-tokenizer, byte
fallback) and bytelevel/ (as LLaMA 3's).
"""

import json
import pathlib
import random
import re
import sys

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers

WANTED = 150_000
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def paragraphs(folders):
    seen = set()
    for folder in folders:
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.suffix not in (".txt", ".md", ".rst", ".py", ".rs") or not path.is_file():
                continue
            try:
                text = path.read_text()
            except (OSError, UnicodeDecodeError):
                continue
            for paragraph in re.split(r"\n\s*\n", text):
                paragraph = " ".join(re.sub(r"^\s*(///|//!|//|#|\*)\s?", "", paragraph, flags=re.M).split())
                prose = sum(c.isalpha() or c == " " for c in paragraph) > 0.9 * len(paragraph)
                if 60 < len(paragraph) < 600 and prose and paragraph not in seen:
                    seen.add(paragraph)
                    yield paragraph
                    if len(seen) == WANTED:
                        return


def save(tokenizer, folder, config):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))


def bytelevel(texts, out):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=32_000, special_tokens=special, initial_alphabet=alphabet))
    tokenizer.post_processor = processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)])
    save(json.loads(tokenizer.to_str()), out / "bytelevel", {"bos_token": special[0], "eos_token": special[1], "pad_token": special[2]})


def sentencepiece(texts, out):
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    each_byte = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=32_000, special_tokens=special + each_byte))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    file = json.loads(tokenizer.to_str())
    file["pre_tokenizer"] = None
    file["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] in special]
    save(file, out / "sentencepiece", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def main():
    out, folders = pathlib.Path(sys.argv[1]), sys.argv[2:]
    out.mkdir(parents=True, exist_ok=True)
    texts = list(paragraphs(folders))
    random.Random(1).shuffle(texts)
    with open(out / "texts.jsonl", "w") as file:
        for i, text in enumerate(texts):
            file.write(json.dumps({"id": i, "text": text, "label": i % 4}, ensure_ascii=False) + "\n")
    with open(out / "words.jsonl", "w") as file:
        for text in texts[: len(texts) // 2]:
            words = text.split()
            tags = ["B-X" if i % 7 == 3 else "O" for i in range(len(words))]
            file.write(json.dumps({"tokens": words, "tags": tags}, ensure_ascii=False) + "\n")
    bytelevel(texts, out)
    sentencepiece(texts, out)
    print(f"{len(texts)} texts, {sum(map(len, texts))} characters")


if __name__ == "__main__":
    main()
