#!/usr/bin/env python3
"""A training step or an inference pass of transformers + peft on a GPU, as one JSON line: the other side of ls-bench-gpu.

    python peft.py step --shape 7b --rows 8 --length 64

Needs torch with CUDA, transformers and peft (versions: ../vs_peft/requirements.txt) and reads no file: weights are drawn on the
GPU in bf16. Attention is SDPA. Shapes, batches, adapter and optimizer are those of benches/src/bin/gpu.rs; the random values are
not, so that losses differ. Both make their tensors from lists of ids within the measured time, and wait for the GPU at its end.
Exits with 3 when the GPU's memory does not suffice.
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time

# This file's own name is the package's: its folder must not come first.
sys.path = [path for path in sys.path if os.path.abspath(path or ".") != os.path.dirname(os.path.abspath(__file__))]

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

# hidden, MLP, layers, heads, key and value heads, vocabulary
SHAPES = {
    "tiny": (96, 136, 3, 6, 3, 200),
    "15m": (288, 768, 6, 6, 6, 32_000),
    "135m": (576, 1536, 30, 9, 3, 49_152),
    "1.1b": (2048, 5632, 22, 32, 4, 32_000),
    "7b": (4096, 11_008, 32, 32, 32, 32_000),
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
CLASSES = 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("what", choices=["step", "infer"])
    add("--device", default="cuda", help="cuda, cuda:N or cpu")
    add("--shape", choices=SHAPES, default="7b")
    add("--dtype", choices=DTYPES, default="bf16")
    add("--rows", type=int, default=8)
    add("--length", type=int, default=64, help="tokens of a row")
    add("--warmup", type=int, default=5, help="iterations before the ones that count")
    add("--iterations", type=int, default=7)
    add("--matrix", type=int, default=8192, help="rows and columns of the product that gives the reachable rate")
    return parser.parse_args()


class DeviceMemory:
    """The peak that nvidia-smi sees: of this process, or of the GPU over its start where processes are not listed."""

    def __init__(self, device):
        self.process, self.gpu, self.before, self.watchers = 0, 0, None, []
        if device.type != "cuda":
            return
        index = device.index or 0
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        self.id = visible[index].strip() if index < len(visible) and visible[index].strip() else str(index)
        try:
            self.before = int(subprocess.run(self.smi("--query-gpu=memory.used"), capture_output=True, text=True).stdout)
        except (OSError, ValueError):
            return
        self.follow("--query-compute-apps=pid,used_memory", self.of_process)
        self.follow("--query-gpu=memory.used", self.of_gpu)

    def smi(self, query):
        return ["nvidia-smi", query, "--format=csv,noheader,nounits", "-i", self.id]

    def follow(self, query, line):
        watcher = subprocess.Popen([*self.smi(query), "-lms", "100"], stdout=subprocess.PIPE, text=True)
        self.watchers.append(watcher)
        threading.Thread(target=lambda: [line(text) for text in watcher.stdout], daemon=True).start()

    def of_process(self, text):
        pid, _, used = text.partition(",")
        if pid.strip() == str(os.getpid()) and used.strip().isdigit():
            self.process = max(self.process, int(used))

    def of_gpu(self, text):
        if text.strip().isdigit():
            self.gpu = max(self.gpu, int(text) - self.before)

    def peak_mib(self):
        return None if self.before is None else self.process or self.gpu

    def stop(self):
        for watcher in self.watchers:
            watcher.kill()


def ids(rows, length, vocabulary):
    """The batch of ls_benches::batch."""
    return [[(row * 1009 + at * 7919 + 3) % vocabulary for at in range(length)] for row in range(rows)]


def make(args, rows, device):
    hidden, mlp, layers, heads, kv_heads, vocabulary = SHAPES[args.shape]
    used = {token for row in rows for token in row}
    config = transformers.LlamaConfig(
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocabulary,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        num_labels=CLASSES,
        # In no row: transformers takes the last token that is not padding.
        pad_token_id=next((token for token in range(vocabulary) if token not in used), None),
    )
    with device:
        base = transformers.AutoModelForSequenceClassification.from_config(
            config, dtype=DTYPES[args.dtype], attn_implementation="sdpa"
        )
        lora = peft.LoraConfig(
            task_type="SEQ_CLS", r=12, lora_alpha=32, lora_dropout=0.0, target_modules=["q_proj", "v_proj"]
        )
        model = peft.get_peft_model(base, lora)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02)
    return model.to(device)


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(size, dtype, device):
    """TFLOP/s of the best of some square products."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for at in range(12):
        wait(device)
        started = time.perf_counter()
        torch.matmul(a, b)
        wait(device)
        if at > 3:
            best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e12


def measure(args, device, memory):
    rows = ids(args.rows, args.length, SHAPES[args.shape][5])
    targets = [row % CLASSES for row in range(args.rows)]
    model = make(args, rows, device)

    def forward():
        batch = torch.tensor(rows, device=device)
        logits = model(input_ids=batch, attention_mask=torch.ones_like(batch), use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.float(), torch.tensor(targets, device=device))

    if args.what == "step":
        model.train()
        trainable = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trainable, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    else:
        model = model.merge_and_unload().eval()
    wait(device)
    loaded = memory.peak_mib()

    seconds, losses = [], []
    for at in range(args.warmup + args.iterations):
        started = time.perf_counter()
        if args.what == "step":
            loss = forward()
            value = loss.item()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        else:
            with torch.no_grad():
                value = forward().item()
        wait(device)
        if at >= args.warmup:
            seconds.append(time.perf_counter() - started)
        losses.append(value)
    allocated = torch.cuda.max_memory_allocated(device) // 2**20 if device.type == "cuda" else None
    return {
        "seconds": seconds,
        "median_seconds": statistics.median(seconds),
        "losses": losses,
        "peak_mib": memory.peak_mib(),
        "peak_loaded_mib": loaded,
        "peak_allocated_mib": allocated,
    }


def main():
    args = arguments()
    device = torch.device(args.device)
    memory = DeviceMemory(device)
    try:
        result = measure(args, device, memory)
    except torch.OutOfMemoryError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    finally:
        memory.stop()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    print(
        json.dumps(
            {
                "what": args.what,
                "device": args.device,
                "shape": args.shape,
                "dtype": args.dtype,
                "rows": args.rows,
                "length": args.length,
                **result,
                "matrix_teraflop_per_second": matrix_rate(args.matrix, DTYPES[args.dtype], device),
                "versions": {
                    "torch": torch.__version__,
                    "transformers": transformers.__version__,
                    "peft": peft.__version__,
                },
            }
        )
    )


if __name__ == "__main__":
    main()
