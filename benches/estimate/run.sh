#!/usr/bin/env bash
# What `ls-cli estimate` expects of a training, beside what the training takes: memory on the CPU of
# sixteen configurations, on the first rows of real data; with TIME=1 also the time of training, by
# --measure. A table at the end. Needs python3.
#   run.sh MODEL SMALL_MODEL SST2_DIR WNUT17_DIR AGNEWS_DIR [NAME ...]
# MODEL and SMALL_MODEL are folders of LLaMAs (SmolLM2-135M, stories260K); the others hold train.tsv
# and dev.tsv, train.conll and dev.conll, train.csv and dev.csv. NAMEs take these configurations
# only. LS_CLI names a program that is built already.
set -euo pipefail
model="$(realpath "$1")" small="$(realpath "$2")" sst2="$3" wnut17="$4" agnews="$5"
shift 5
wanted=("$@")
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
program="${LS_CLI:-${CARGO_TARGET_DIR:-$here/../../target}/debug/ls-cli}"
[ -n "${LS_CLI:-}" ] || cargo build -p ls-cli
program="$(realpath "$program")"
work="$(mktemp -d)"
trap 'rm -r "$work"' EXIT

head -n 400 "$sst2/train.tsv" > "$work/train.tsv"
head -n 64 "$sst2/dev.tsv" > "$work/dev.tsv"
head -n 200 "$agnews/train.csv" > "$work/train.csv"
head -n 50 "$agnews/dev.csv" > "$work/dev.csv"
sentences() { awk -v rows="$1" 'BEGIN { RS = ""; ORS = "\n\n" } NR <= rows' "$2"; }
sentences 300 "$wnut17/train.conll" > "$work/train.conll"
sentences 60 "$wnut17/dev.conll" > "$work/dev.conll"
# configuration NAME TASK ENDING ROWS KEYS
configuration() {
  printf 'task = "%s"\nmodel.path = "%s"\ndata.train = "train.%s"\ndata.validation = "dev.%s"\n' \
    "$2" "$model" "$3" "$3" > "$work/$1.toml"
  printf 'data.max_train_samples = %s\n%s\ndata.cache = false\ntrain.epochs = 2\nlora.r = 8\n' \
    "$4" "$5" >> "$work/$1.toml"
}
columns='data.header = false
data.text = 0
data.label = 1'
configuration texts sequence tsv 64 "$columns"
configuration words token conll 64 'data.malformed = "repair"'
columns='data.header = false
data.text = 1
data.text_append = [2]
data.label = 0'
configuration long sequence csv 32 "$columns"

cd "$work"
# compare NAME CONFIG KEY=VALUE...
compare() {
  local name="$1" config="$2" flags=()
  shift 2
  if [ "${#wanted[@]}" -gt 0 ] && [[ " ${wanted[*]} " != *" $name "* ]]; then return; fi
  for set in "$@"; do flags+=(--set "$set"); done
  "$program" estimate --config "$config.toml" "${flags[@]}" --json -q > "$name.json"
  if [ -n "${TIME:-}" ]; then
    "$program" estimate --config "$config.toml" "${flags[@]}" --json -q --measure > "$name.time.json"
  fi
  "$program" train --config "$config.toml" "${flags[@]}" --run "$name" -q > /dev/null
  echo "$name" >> names
  echo "$name: done" >&2
}
linear='lora.target_modules="all-linear"'
compare lora-r8-qv texts
compare lora-r16-linear-16 texts lora.r=16 "$linear" train.micro_batch_size=16
compare tagger words
compare bf16 texts model.dtype=bf16
compare int8 texts model.quantization=int8
compare nf4 texts model.quantization=nf4
compare long-texts long
compare long-checkpointing long train.gradient_checkpointing=true
compare one-epoch texts train.epochs=1
compare two-layers texts lora=false 'train.layers="28-29"'
compare full texts lora=false data.max_train_samples=32
compare pissa texts "$linear" lora.init_lora_weights=pissa_niter_4
compare saved-layers texts 'lora.modules_to_save=["layers.28", "layers.29"]'
compare evaluation words train.micro_batch_size=1 train.eval_batch_size=64
compare small texts "model.path=$small" lora.r=4
compare small-full texts "model.path=$small" lora=false data.max_train_samples=400

python3 - <<'TABLE'
import json, os
print("| configuration | trains | expected | measured | expected / measured | training, expected / measured |")
print("|---|---|---|---|---|---|")
for name in open("names").read().split():
    expected, report = (json.load(open(path)) for path in (f"{name}.json", f"{name}/report.json"))
    peak, seconds, time = report["peak_memory"], report["train_seconds"], ""
    if os.path.exists(f"{name}.time.json"):
        told = json.load(open(f"{name}.time.json"))["measured"]["train_seconds"]
        time = f"{told:.1f} s / {seconds:.1f} s = {told / seconds:.2f}"
    print(f"| {name} | {expected['parameters']['trainable']:,} | {expected['peak'] / 1e6:.0f} MB "
          f"| {peak / 1e6:.0f} MB | {expected['peak'] / peak:.3f} | {time} |")
TABLE
