#!/usr/bin/env bash
# SST-2 side by side: for each seed this program, then transformers + peft, with the same settings
# on the same machine.
#
#   benches/vs_peft/sst2.sh LS_CLI PYTHON MODEL_DIR SST2_DIR OUT_DIR [SEEDS]
#
# SST2_DIR holds train.tsv and dev.tsv (text, tab, label; no header). Run it on an idle machine.
set -euo pipefail
cli=$1 python=$2 model=$3 data=$4 out=$5 seeds=${6:-"1 2 3"}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
for seed in $seeds; do
  "$cli" train --config "$here/sst2.toml" --run "$out/ls-llama-$seed" \
    --set "model.path=$model" --set "data.train=$data/train.tsv" --set "data.validation=$data/dev.tsv" \
    --set "train.seed=$seed" 2>"$out/ls-llama-$seed.log" >/dev/null
  "$python" "$here/sst2_stories.py" --model "$model" --data "$data" --seeds "$seed" --epochs 3 --out "$out/peft-$seed.json" \
    >"$out/peft-$seed.log" 2>&1
done
"$python" - "$out" $seeds <<'PY'
import json, statistics, sys
from pathlib import Path

out, seeds = Path(sys.argv[1]), sys.argv[2:]
ours, theirs = [], []
for seed in seeds:
    lines = [json.loads(line) for line in open(out / f"ls-llama-{seed}" / "metrics.jsonl")]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    steps = [line for line in lines if line["kind"] == "step"]
    epoch = len(steps) // len(evaluations)
    seconds = [sum(s["seconds"] for s in steps[i * epoch:(i + 1) * epoch]) for i in range(len(evaluations))]
    report = json.load(open(out / f"ls-llama-{seed}" / "report.json"))
    ours.append(([e["value"] for e in evaluations], seconds, report["peak_memory"] / 2**20))
    run = json.load(open(out / f"peft-{seed}.json"))["runs"][0]
    epochs = run["epochs"]
    theirs.append(([e["dev_accuracy"] for e in epochs], [e["train_seconds"] for e in epochs], epochs[-1]["peak_rss_mib"]))
for name, runs in (("ls-llama", ours), ("transformers + peft", theirs)):
    accuracy = [statistics.mean(run[0][epoch] for run in runs) for epoch in range(len(runs[0][0]))]
    seconds = statistics.median(s for run in runs for s in run[1])
    print(f"{name:20} accuracy by epoch {' '.join(f'{a:.4f}' for a in accuracy)}  last, by seed "
          f"{' '.join(f'{run[0][-1]:.4f}' for run in runs)}  epoch {seconds:.1f} s (median)  peak {max(r[2] for r in runs):.0f} MiB")
ratio = statistics.median(s for run in theirs for s in run[1]) / statistics.median(s for run in ours for s in run[1])
print(f"transformers + peft takes {ratio:.2f} times as long an epoch")
PY
