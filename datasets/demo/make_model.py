#!/usr/bin/env python3
"""Trains the demo's tokenizer and its tiny LLaMA from the corpus that make_text.py writes.

    python make_text.py --out corpus.txt
    python make_model.py --corpus corpus.txt        # about ten minutes on two CPU cores

Made with torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, safetensors 0.8.0.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

SEED = 7
VOCABULARY = 2048
SPECIAL = ["<unk>", "<s>", "</s>"]
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 344,
    "max_position_embeddings": 256,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "pad_token_id": None,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": VOCABULARY,
}


def train_tokenizer(corpus, folder):
    """A byte-fallback BPE laid out as LLaMA 2's: three specials, 256 bytes, then pieces by rank."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    # Only for training, so that no piece crosses a space or holds punctuation or two digits; LLaMA
    # 2 itself has no pre-tokenizer, and with these merges it needs none.
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        pre_tokenizers.Punctuation("isolated"),
        pre_tokenizers.Digits(individual_digits=True),
    ])
    size = VOCABULARY - len(SPECIAL) - 256
    bpe.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False))
    learned = json.loads(bpe.to_str())["model"]
    pieces = sorted(learned["vocab"], key=learned["vocab"].get)
    tokens = SPECIAL + [f"<0x{b:02X}>" for b in range(256)] + pieces
    assert len(tokens) == len(set(tokens)) == VOCABULARY, len(tokens)
    special = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i, t in enumerate(SPECIAL)]
    layout = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {t: i for i, t in enumerate(tokens)}, "merges": learned["merges"]},
    }
    (folder / "tokenizer.json").write_text(json.dumps(layout, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False, "model_max_length": CONFIG["max_position_embeddings"],
        "tokenizer_class": "PreTrainedTokenizerFast"}, indent=2) + "\n", encoding="utf-8")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def packed(tokenizer, documents, length):
    """Every document as `<s> ... </s>`, one after another, cut into rows."""
    ids = [i for e in tokenizer.encode_batch(documents) for i in (*e.ids, 2)]
    rows = len(ids) // length
    return torch.tensor(ids[: rows * length]).view(rows, length)


@torch.no_grad()
def perplexity(model, rows):
    model.eval()
    total = sum(model(input_ids=r, labels=r).loss.item() * len(r) for r in rows.split(32))
    model.train()
    return math.exp(total / len(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "model")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    documents = args.corpus.read_text(encoding="utf-8").splitlines()
    held, documents = documents[:1000], documents[1000:]
    tokenizer = train_tokenizer(documents, args.out)
    rows, held = packed(tokenizer, documents, args.length), packed(tokenizer, held, args.length)
    print(f"{len(documents)} documents, {rows.numel()} tokens; held out: {held.numel()} tokens", flush=True)

    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in CONFIG.items() if k != "torch_dtype"})).float()
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
                                  lr=args.lr, betas=(0.9, 0.95))
    steps = int(args.epochs * len(rows) / args.batch)
    warmup = steps // 50 + 1
    order = torch.cat([torch.randperm(len(rows)) for _ in range(math.ceil(args.epochs))])
    start = time.time()
    for step in range(steps):
        rate = min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
        batch = rows[order[step * args.batch:(step + 1) * args.batch]]
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0 or step == steps - 1:
            print(f"step {step}/{steps} loss {loss.item():.3f} {time.time() - start:.0f}s", flush=True)

    weights = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(weights, args.out / "model.safetensors", metadata={"format": "pt"})
    (args.out / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")

    print(f"held-out perplexity in f32: {perplexity(model, held):.3f}")
    saved = AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.float32)
    print(f"held-out perplexity of the saved bf16 weights: {perplexity(saved, held):.3f}")
    auto = AutoTokenizer.from_pretrained(args.out)
    text = "Anna ordered the soup , naïve 日本 1984!"
    assert auto(text).input_ids == tokenizer.encode(text).ids
    assert auto.decode(auto(text).input_ids, skip_special_tokens=True) == text
    for prompt in ("The soup was cold, but", "Yesterday Preston", "I expected a dull"):
        ids = torch.tensor([auto(prompt).input_ids])
        print(auto.decode(saved.generate(ids, max_new_tokens=24, do_sample=False)[0], skip_special_tokens=True))


if __name__ == "__main__":
    main()
