#!/usr/bin/env python3
"""A LLaMA with random weights and a PEFT adapter for it, for step.sh and first_answer.sh.

    python make.py OUT --shape 135m

OUT/model is a Hugging Face folder (decoder and tokenizer), OUT/adapter a PEFT folder with a sequence head. B is random
too, not zero as in a fresh adapter: otherwise the gradients of A would be zero in the first step.
"""

import argparse
import inspect
import pydoc_data.topics
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForSequenceClassification, PreTrainedTokenizerFast

# hidden, intermediate, layers, heads, key and value heads, vocabulary
SHAPES = {
    "15m": (288, 768, 6, 6, 6, 32_000),  # stories15M
    "135m": (576, 1536, 30, 9, 3, 49_152),  # SmolLM-135M
    "1.1b": (2048, 5632, 22, 32, 4, 32_000),  # TinyLlama-1.1B
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
DEVIATION = 0.02


def config(shape, labels):
    hidden, intermediate, layers, heads, kv_heads, vocabulary = SHAPES[shape]
    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=DEVIATION,
        num_labels=labels,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )


def tokenizer():
    """2,000 entries, learned from Python's own help texts, which every Python has."""
    texts = [line for _, text in sorted(pydoc_data.topics.topics.items()) for line in inspect.cleandoc(text).splitlines()]
    special = ["<s>", "</s>", "<pad>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="f32", help="of the decoder's file")
    parser.add_argument("--labels", type=int, default=2)
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.manual_seed(7)

    base = LlamaForSequenceClassification(config(args.shape, args.labels))
    base = base.to(DTYPES[args.dtype])
    folder = args.out / "model"
    folder.mkdir(parents=True, exist_ok=True)
    # The names of a real checkpoint, without the head: that is the adapter's.
    decoder = {name: tensor for name, tensor in base.state_dict().items() if not name.startswith("score.")}
    save_file(decoder, folder / "model.safetensors", metadata={"format": "pt"})
    base.config.dtype = DTYPES[args.dtype]
    base.config.architectures = ["LlamaForSequenceClassification"]
    base.config.save_pretrained(folder)
    tokenizer().save_pretrained(folder)

    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=12, lora_alpha=32, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]
    )
    model = get_peft_model(base, lora)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name or (weight.requires_grad and "score" in name):
                weight.normal_(0.0, DEVIATION)
    model.save_pretrained(args.out / "adapter")
    print(f"{args.out}: {sum(tensor.numel() for tensor in decoder.values()) / 1e6:.1f}M parameters in {args.dtype}")


if __name__ == "__main__":
    main()
