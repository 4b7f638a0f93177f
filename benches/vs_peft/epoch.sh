#!/usr/bin/env bash
# One epoch of SST-2 beside transformers + peft, by turns: real sentences, random weights of the
# 135M shape, f32, CPU.
#
#   benches/vs_peft/epoch.sh PYTHON SST2_DIR OUT [--steps N] [--window N]
#
# SST2_DIR holds train.tsv and dev.tsv (text, tab, label; no header). --steps takes a part of the
# sentences, evenly spaced, so that the epoch has N steps; --window says how many steps a side makes
# in a turn (default: 10). THREADS from the environment replaces the number of cores. Prints a table
# and ratios; exits with 1 if losses differ by more than 1e-2 of theirs. Run it on an idle machine.
# What is compared stands in README.md.
set -euo pipefail
python=$1 data=$2 out=$3 steps= window=10
shift 3
while [ $# -gt 0 ]; do
  case $1 in
    --steps) steps=$2 ;;
    --window) window=$2 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
manifest="$here/../../Cargo.toml"
# At once: each alone would be built with other features of what both use.
cargo build --manifest-path "$manifest" -p ls-cli --bin ls-cli -p ls-benches --bin ls-bench-epoch
programs="${CARGO_TARGET_DIR:-$here/../../target}/debug"
mkdir -p "$out"
out=$(cd "$out" && pwd)
# A folder that is there is used again: its weights would be the same. The adapter is written last.
[ -e "$out/135m/adapter/adapter_model.safetensors" ] || "$python" "$here/make.py" "$out/135m" --shape 135m >&2
"$python" "$here/epoch_make.py" "$data" "$out/data" "$out/135m/model" ${steps:+--steps "$steps"}
rm -rf "$out/runs"
exec "$python" "$here/epoch_turns.py" --programs "$programs" --out "$out" --window "$window" --threads "${THREADS:-$(nproc)}"
