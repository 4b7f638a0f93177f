#!/usr/bin/env bash
# From process start to the label of one sentence: `ls-cli predict` beside a minimal program with
# transformers + peft.
#
#   benches/vs_peft/first_answer.sh PYTHON OUT_DIR [SHAPES] [RUNS]
#
# SHAPES is a list of 15m, 135m and 1.1b in one argument (default: "15m 135m"), RUNS how often each
# side is timed, by turns (default: 5), after one run each that does not count: files and libraries
# are in the page cache then. Prints a table; exits with 1 if the answers differ.
set -euo pipefail
python=$1 out=$2 shapes=${3:-"15m 135m"} runs=${4:-5}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cargo build --manifest-path "$here/../../Cargo.toml" -p ls-cli --bin ls-cli
ours="${CARGO_TARGET_DIR:-$here/../../target}/debug/ls-cli"
for shape in $shapes; do
  [ -e "$out/$shape/adapter/adapter_model.safetensors" ] || "$python" "$here/make.py" "$out/$shape" --shape "$shape" >&2
done
"$python" - "$here" "$ours" "$out" "$runs" $shapes <<'TABLE'
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

here, ours, out, runs, shapes = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
text = "A film that is worth every minute of its two hours."


def timed(command):
    """Seconds, peak MiB and the answer of one run."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    answer = process.stdout.read()
    # wait4 tells the peak memory of this one child.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return seconds, usage.ru_maxrss / 1024, json.loads(answer)


differ = []
print("| shape | ours | theirs | theirs / ours | peak MiB, ours | theirs |")
print("|---|---|---|---|---|---|")
for shape in shapes:
    model, adapter = str(out / shape / "model"), str(out / shape / "adapter")
    options = ["--task", "sequence", "--format", "jsonl"]
    commands = [
        [ours, "predict", "--model", model, "--adapter", adapter, *options, text],
        [sys.executable, f"{here}/first_answer.py", model, adapter, text],
    ]
    rounds = [[timed(command) for command in commands] for _ in range(runs + 1)][1:]
    times = [statistics.median(one[side][0] for one in rounds) for side in (0, 1)]
    ratio = statistics.median(one[1][0] / one[0][0] for one in rounds)
    peaks = [max(one[side][1] for one in rounds) for side in (0, 1)]
    answers = [rounds[0][side][2] for side in (0, 1)]
    if answers[0]["label"] != answers[1]["label"] or abs(answers[0]["score"] - answers[1]["score"]) > 1e-3:
        differ.append(f"{shape}: {answers[0]} and {answers[1]}")
    print(
        f"| {shape} | {times[0] * 1000:.0f} ms | {times[1] * 1000:.0f} ms | {ratio:.1f} | {peaks[0]:.0f} | {peaks[1]:.0f} |",
        flush=True,
    )
if differ:
    sys.exit("the answers differ: " + "; ".join(differ))
TABLE
