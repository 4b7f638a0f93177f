#!/usr/bin/env bash
# One training step, and one inference pass with the adapter merged, beside transformers + peft:
# random weights, CPU.
#
#   benches/vs_peft/step.sh PYTHON OUT_DIR [SHAPES] [ROUNDS]
#
# SHAPES is a list of 15m, 135m and 1.1b in one argument (default: "15m 135m"), ROUNDS how often
# both sides have their turn (default: 3). ROWS, LENGTH, WARMUP, ITERATIONS and THREADS from the
# environment replace 8, 64, 2, 7 and the number of cores; WHAT, DTYPE and CHECKPOINTING replace
# "train infer", f32 (of the frozen weights; or bf16) and 0 (or 1: gradient checkpointing in
# training, on both sides). Prints a table; exits with 1 if the losses of the two sides differ by
# more than 1e-3 of theirs (5e-2 in bf16). Run it on an idle machine.
set -euo pipefail
python=$1 out=$2 shapes=${3:-"15m 135m"} rounds=${4:-3}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
threads=${THREADS:-$(nproc)}
options=(--rows "${ROWS:-8}" --length "${LENGTH:-64}" --warmup "${WARMUP:-2}" --iterations "${ITERATIONS:-7}" --threads "$threads" --dtype "${DTYPE:-f32}")
cargo build --manifest-path "$here/../Cargo.toml" -p ls-benches --bin ls-bench-step
ours="${CARGO_TARGET_DIR:-$here/../../target}/debug/ls-bench-step"
mkdir -p "$out"
for shape in $shapes; do
  # A folder that is there is used again: its weights would be the same. The adapter is written
  # last.
  [ -e "$out/$shape/adapter/adapter_model.safetensors" ] || "$python" "$here/make.py" "$out/$shape" --shape "$shape" >&2
  for what in ${WHAT:-train infer}; do
    folders=(--model "$out/$shape/model" --adapter "$out/$shape/adapter")
    if [ "$what" = train ] && [ "${CHECKPOINTING:-0}" = 1 ]; then folders+=(--gradient-checkpointing); fi
    : >"$out/$shape-$what.ours"
    : >"$out/$shape-$what.theirs"
    for _ in $(seq "$rounds"); do
      RAYON_NUM_THREADS=$threads "$ours" "$what" "${folders[@]}" "${options[@]}" >>"$out/$shape-$what.ours"
      "$python" "$here/step.py" "$what" "${folders[@]}" "${options[@]}" 2>"$out/$shape-$what.log" >>"$out/$shape-$what.theirs" ||
        { cat "$out/$shape-$what.log" >&2; exit 2; }
    done
  done
done
"$python" - "$out" $shapes <<'TABLE'
import json
import os
import statistics
import sys
from pathlib import Path

out, shapes = Path(sys.argv[1]), sys.argv[2:]
worst, first = 0.0, None
rows = []
for shape in shapes:
    for what in os.environ.get("WHAT", "train infer").split():
        read = lambda side: [json.loads(line) for line in open(out / f"{shape}-{what}.{side}")]
        ours, theirs = read("ours"), read("theirs")
        first = first or (ours[0], theirs[0])
        pairs = list(zip(ours, theirs, strict=True))
        middle = lambda run: statistics.median(run["seconds"])
        time = [statistics.median(second for run in runs for second in run["seconds"]) for runs in (ours, theirs)]
        ratio = statistics.median(middle(other) / middle(mine) for mine, other in pairs)
        peak = [max(run["peak_rss_mib"] for run in runs) for runs in (ours, theirs)]
        libraries = theirs[0]["peak_rss_libraries_mib"]
        losses = [pair for mine, other in pairs for pair in zip(mine["losses"], other["losses"], strict=True)]
        # Written so that NaN is not taken for agreement.
        apart = max((abs(a - b) / abs(b) if a == a and b == b else float("inf")) for a, b in losses)
        worst = max(worst, apart)
        rows.append(
            f"| {shape} | {what} | {time[0] * 1000:.0f} ms | {time[1] * 1000:.0f} ms | {ratio:.2f} "
            f"| {peak[0]:.0f} | {peak[1]:.0f} ({libraries:.0f}) | {peak[0] / peak[1]:.2f} | {apart:.1e} |"
        )
mine, other = first
versions = ", ".join(f"{name} {version}" for run in (mine, other) for name, version in run["versions"].items())
kind = mine["dtype"] + (", gradient checkpointing in training" if os.environ.get("CHECKPOINTING") == "1" else "")
print(f"{mine['rows']} rows of {mine['length']} tokens, {kind}, {mine['threads']} and {other['threads']} threads, {versions}\n")
print("| shape | what | ours | theirs | theirs / ours | peak MiB, ours | theirs (libraries alone) | ours / theirs | losses apart |")
print("|---|---|---|---|---|---|---|---|---|")
print("\n".join(rows))
# In bf16 the other side computes in bf16 too, ours in f32.
if worst > (1e-3 if mine["dtype"] == "f32" else 5e-2):
    sys.exit(f"the losses differ by up to {worst:.1e} of theirs")
TABLE
