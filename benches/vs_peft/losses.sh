#!/usr/bin/env bash
# The losses of one epoch of SST-2 on a pretrained LLaMA, beside transformers + peft: same order,
# same start, no dropout.
#
#   benches/vs_peft/losses.sh PYTHON MODEL_DIR SST2_DIR OUT
#
# MODEL_DIR is a folder in Hugging Face's layout, SST2_DIR holds train.tsv and dev.tsv (text, tab,
# label; no header), the settings are those of epoch.toml. Exits with 1 if losses of the first 200
# steps are more than 1e-3 apart; draws OUT/losses.svg. THREADS from the environment replaces the
# number of cores.
set -euo pipefail
python=$1 model=$2 data=$3 out=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
manifest="$here/../../Cargo.toml" threads=${THREADS:-$(nproc)}
# At once: each alone would be built with other features of what both use.
cargo build --manifest-path "$manifest" -p ls-cli --bin ls-cli -p ls-benches --bin ls-bench-epoch
programs="${CARGO_TARGET_DIR:-$here/../../target}/debug"
mkdir -p "$out"
settings=(--config "$here/epoch.toml" --set "model.path=$model" --set "data.train=$data/train.tsv"
  --set "data.validation=$data/dev.tsv")
export RAYON_NUM_THREADS=$threads
"$programs/ls-bench-epoch" "${settings[@]}" --out "$out/start"
"$programs/ls-cli" train "${settings[@]}" --run "$out/run"
"$python" "$here/epoch.py" --model "$model" --adapter "$out/start/adapter" --data "$data/train.tsv" \
  --order "$out/start/order.json" --padding longest --threads "$threads" --metrics "$out/peft.jsonl"
exec "$python" "$here/losses.py" "$out/run/metrics.jsonl" "$out/peft.jsonl" --out "$out/losses.svg"
