#!/usr/bin/env bash
# Compares CUDA with the CPU on the demo: the losses of the first steps, the final accuracy, and the
# predictions of one trained adapter. Needs a CUDA machine, python3, and the program built with both
# backends:
#
#     cargo build -p ls-cli --features cuda
#     benches/gpu/run.sh target/debug/ls-cli [OUT]
#
# Exits with 1 if anything differs by more than the limits below.
set -euo pipefail

if [[ $# -lt 1 || $# -gt 2 ]]; then
  echo "usage: $0 LS_CLI [OUT]" >&2
  exit 2
fi
bin="$(realpath "$1")"
out="$(realpath -m "${2:-runs/gpu-$(date +%Y%m%d-%H%M%S)}")"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# A run folder is never written twice.
mkdir -p "$(dirname "$out")"
mkdir "$out"

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/gpu.txt"
"$bin" --version | tee "$out/version.txt"

# Start, order and dropout are the run's seed's, whatever the device.
for device in cpu cuda; do
  echo "== train on $device" >&2
  "$bin" train --device "$device" --run "$out/$device" \
    --set train.baselines=false >"$out/$device.txt"
done

# The frozen weights in 4 and 8 bits a value, on the GPU.
for format in nf4 int8; do
  echo "== train on cuda, $format" >&2
  "$bin" train --device cuda --run "$out/cuda-$format" --set "model.quantization=$format" \
    --set train.baselines=false >"$out/cuda-$format.txt"
done

# One adapter on both devices: what is left is arithmetic alone.
tail -n +2 datasets/demo/sentiment/test.tsv | cut -f1 >"$out/texts.txt"
for device in cpu cuda; do
  echo "== predict on $device" >&2
  "$bin" predict --device "$device" --run "$out/cpu" --input "$out/texts.txt" --format jsonl >"$out/$device.jsonl"
  "$bin" predict --device "$device" --run "$out/cuda-nf4" --input "$out/texts.txt" --format jsonl >"$out/$device-nf4.jsonl"
done

python3 - "$out" <<'PYTHON'
import json
import sys
from pathlib import Path

STEPS = 20
LOSS = 1e-2  # relative, at every one of these steps
ACCURACY = 0.02
PROBABILITY = 1e-3

out = Path(sys.argv[1])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps(device):
    return [line for line in lines(out / device / "metrics.jsonl") if line["kind"] == "step"]


def report(device):
    return json.loads((out / device / "report.json").read_text())


failed = False


def check(name, value, limit):
    global failed
    failed |= not value <= limit  # NaN fails too
    print(f"{name:<44} {value:10.2e}  limit {limit:.0e}  {'ok' if value <= limit else 'FAILED'}")


cpu, cuda = steps("cpu"), steps("cuda")
first = list(zip(cpu, cuda))[:STEPS]
assert first, "no steps in metrics.jsonl"
check(
    f"loss of the first {len(first)} steps, relative",
    max(abs(a["loss"] - b["loss"]) / abs(a["loss"]) for a, b in first),
    LOSS,
)
a, b = first[0]
check("gradient norm of the first step, relative", abs(a["grad_norm"] - b["grad_norm"]) / a["grad_norm"], LOSS)

a, b = report("cpu"), report("cuda")
check("test accuracy", abs(a["scores"]["accuracy"] - b["scores"]["accuracy"]), ACCURACY)

for base in ("", "-nf4"):
    answers = list(zip(lines(out / f"cpu{base}.jsonl"), lines(out / f"cuda{base}.jsonl"), strict=True))
    check(
        f"probabilities of {len(answers)} texts{', 4-bit weights' if base else ''}",
        max(abs(p - b["scores"][label]) for a, b in answers for label, p in a["scores"].items()),
        PROBABILITY,
    )

for device in ("cpu", "cuda", "cuda-nf4", "cuda-int8"):
    r = report(device)
    print(
        f"{device:<9} accuracy {r['scores']['accuracy']:.4f}  {r['tokens_per_second']:.0f} tokens/s"
        f"  {r['train_seconds']:.1f} s in {r['steps']} steps"
    )
sys.exit(failed)
PYTHON
