#!/usr/bin/env bash
# What bars cost a training: the demonstration with --progress bar and off, by turns; the medians of
# the time of training in report.json. Needs python3.
#   run.sh ROUNDS [ARGUMENTS OF train]
set -euo pipefail
rounds="$1"
shift
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cargo build -p ls-cli
program="${CARGO_TARGET_DIR:-$here/../../target}/debug/ls-cli"
runs="$(mktemp -d)"
trap 'rm -r "$runs"' EXIT
for round in $(seq "$rounds"); do
  for mode in bar off; do
    "$program" train "$@" --run "$runs/$mode-$round" --progress "$mode" 2> "$runs/$mode-$round.log" > /dev/null
  done
done
python3 - "$runs" "$rounds" <<'TABLE'
import json, statistics, sys
folder, rounds = sys.argv[1], range(1, int(sys.argv[2]) + 1)
seconds = lambda mode: [json.load(open(f"{folder}/{mode}-{n}/report.json"))["train_seconds"] for n in rounds]
bar, off = seconds("bar"), seconds("off")
ratio = statistics.median(b / o for b, o in zip(bar, off))
shown = lambda times: f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"
print("| bar | off | bar / off, median of the rounds |")
print("|---|---|---|")
print(f"| {shown(bar)} | {shown(off)} | {ratio:.3f} |")
TABLE
