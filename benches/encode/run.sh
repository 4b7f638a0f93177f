#!/usr/bin/env bash
# From a file to encoded examples, beside the tokenizer alone and beside datasets.map, by turns.
#   run.sh PYTHON DATA_DIR ROUNDS        (DATA_DIR: made by make.py)
set -euo pipefail
python="$1" data="$2" rounds="$3"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cargo build -p ls-data --example encode_speed
ours="${CARGO_TARGET_DIR:-$here/../../target}/debug/examples/encode_speed"
for kind in texts words; do
  for tokenizer in bytelevel sentencepiece; do
    : > "$data/$kind-$tokenizer.ours"
    : > "$data/$kind-$tokenizer.python"
    for _ in $(seq "$rounds"); do
      "$ours" "$data/$tokenizer" "$data/$kind.jsonl" "$kind" 1 >> "$data/$kind-$tokenizer.ours"
      "$python" "$here/map.py" "$data" "$tokenizer" "$kind" 2>/dev/null >> "$data/$kind-$tokenizer.python"
    done
  done
done
"$python" - "$data" <<'TABLE'
import json, statistics, sys
print("| | bare encode_batch | ours, file to examples | datasets.map | bare / ours | map / ours | (load + map) / ours | again |")
print("|---|---|---|---|---|---|---|---|")
for kind in ("texts", "words"):
    for tokenizer in ("bytelevel", "sentencepiece"):
        read = lambda side: [json.loads(line) for line in open(f"{sys.argv[1]}/{kind}-{tokenizer}.{side}")]
        ours, python = read("ours"), read("python")
        median = lambda rows, value: statistics.median(map(value, rows))
        pairs = list(zip(ours, python))
        print(f"| {kind}, {tokenizer} | {median(ours, lambda r: r['bare']):.2f} s | {median(ours, lambda r: r['file']):.2f} s "
              f"| {median(python, lambda r: r['map']):.2f} s | {median(ours, lambda r: r['bare'] / r['file']):.2f} "
              f"| {median(pairs, lambda p: p[1]['map'] / p[0]['file']):.2f} "
              f"| {median(pairs, lambda p: (p[1]['load'] + p[1]['map']) / p[0]['file']):.2f} "
              f"| {median(ours, lambda r: r['again']) * 1000:.0f} ms |")
TABLE
