#!/usr/bin/env bash
# Everything that is measured on a GPU, in nine minutes: whether the device computes, parity with
# the CPU, training steps and inference of LLaMA-2-7B's shape with random weights beside
# transformers + peft, memory, a profile, the first step apart from the others, the same in a second
# process, ragged batches with dropout, packed weights, and the demo (run.sh).
#
#     benches/gpu/all.sh PACK_OR_BIN PYTHON OUT
#
# PACK_OR_BIN: a folder with ls-bench-gpu (and ls-cli, for the demo), or ls-bench-gpu itself.
# PYTHON: one with torch for CUDA, transformers and peft. OUT: a new folder; OUT/results.jsonl and
# OUT/table.md are made, and a log of every run.
#
# What decides comes first, and the table is written again after every part, so that a run that is
# cut off counts too. A side that is missing, runs out of memory or out of time is a row of the
# table. Exits with 1 if a limit is missed. From the environment: DEVICE (cuda), SHAPE (7b), DTYPE
# (bf16; f32 for wgpu), BATCHES ("8x64 32x512"), ROUNDS (1), WARMUP (5), ITERATIONS (7), MATRIX
# (8192), DEADLINE_S (530, of everything), PATIENCE (1, times the limit of each part; more without a
# GPU).
set -uo pipefail

if [[ $# -ne 3 ]]; then
  echo "usage: $0 PACK_OR_BIN PYTHON OUT" >&2
  exit 2
fi
bin="$(realpath "$1")"
[[ -d "$bin" ]] && bin="$bin/ls-bench-gpu"
if [[ ! -x "$bin" ]]; then
  echo "$bin is no program: cargo build -p ls-benches --bin ls-bench-gpu --features cuda" >&2
  exit 2
fi
cli="$(dirname "$bin")/ls-cli"
python="$2"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
mkdir -p "$(dirname "$3")"
mkdir "$3" || exit 2
out="$(realpath "$3")"
results="$out/results.jsonl"
deadline=$((SECONDS + ${DEADLINE_S:-530}))

device="${DEVICE:-cuda}" shape="${SHAPE:-7b}" rounds="${ROUNDS:-1}"
# WGSL has no bf16.
dtype="${DTYPE:-bf16}"
[[ "$device" == wgpu ]] && dtype=f32
read -ra batches <<<"${BATCHES:-8x64 32x512}"
small="${batches[0]}"
# Compiled kernels of their own, so that the first process is a first one.
export LS_LLAMA_CACHE="$out/cache"

if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/gpu.txt" >&2
fi

# Text as a JSON string.
quoted() {
  local text="${1//\\/\\\\}"
  text="${text//\"/\\\"}"
  printf '"%s"' "$(tr -d '\000-\037' <<<"$text")"
}

# Why a run failed, from its exit status and its log.
reason() {
  if [[ $1 -eq 3 ]] || grep -qiE 'out of ?memory|OUT_OF_MEMORY' "$2"; then
    echo "out of memory"
  elif [[ $1 -eq 124 || $1 -eq 137 ]]; then
    echo "took too long"
  elif grep -qiE '^error: ' "$2"; then
    grep -m 1 -iE '^error: ' "$2" | cut -c8-
  else
    echo "failed, see $(basename "$2")"
  fi
}

instead() { # side, head of the result, failed or missing, reason
  printf '{"side": "%s", "result": {%s, "%s": %s}}\n' "$1" "$2" "$3" "$(quoted "$4")" >>"$results"
  echo "   $4" >&2
}

table() {
  "$bin" table --results "$results" >"$out/table.md"
}

# The seconds that a part may take; fails if none are worth it.
allowed() {
  local left=$((deadline - SECONDS)) limit=$(($1 * ${PATIENCE:-1}))
  [[ $left -ge 10 ]] && echo $((left < limit ? left : limit))
}

# One process: its lines go to the results.
run() { # side, name, seconds, head of the result, command...
  local side="$1" name="$2" limit head="$4" status=0 again=""
  if ! limit="$(allowed "$3")"; then
    echo "== $name" >&2
    instead "$side" "$head" missing "no time left"
    return
  fi
  shift 4
  [[ "$name" == *-again ]] && again='"again": true, '
  echo "== $name (at most $limit s, $((deadline - SECONDS)) left)" >&2
  timeout --kill-after=5 "$limit" "$@" >"$out/$name.json" 2>"$out/$name.log" || status=$?
  sed "s/^/{$again\"side\": \"$side\", \"result\": /; s/\$/}/" "$out/$name.json" >>"$results"
  # What is too far off exits with 1 too, and says so in its lines.
  if [[ $status -ne 0 ]] && { [[ $status -ne 1 ]] || [[ -s "$out/$name.log" ]]; }; then
    instead "$side" "$head" failed "$(reason "$status" "$out/$name.log")"
  fi
  table
}

# The head of a result, and the command's arguments in `work`.
part() { # step or infer, batch
  local rows="${2%x*}" length="${2#*x}"
  head="\"what\": \"$1\", \"rows\": $rows, \"length\": $length"
  work=("$1" --device "$device" --dtype "$dtype" --shape "$shape" --rows "$rows" --length "$length"
    --warmup "${WARMUP:-5}" --iterations "${ITERATIONS:-7}" --matrix "${MATRIX:-8192}")
}

# The other side, after the first use of our own: looking for it takes seconds too.
unset missing
theirs() { # name, seconds
  if [[ -z "${missing+known}" ]]; then
    missing="" # why it cannot run
    local probe="import torch, transformers, peft"
    [[ "$device" == cuda* ]] && probe+='
assert torch.cuda.is_available(), "torch sees no GPU"'
    if [[ "$device" == wgpu ]]; then
      missing="torch has no wgpu"
    elif ! command -v "$python" >/dev/null; then
      missing="no $python"
    elif ! timeout 60 "$python" -c "$probe" >"$out/python.log" 2>&1; then
      missing="$(tail -n 1 "$out/python.log")"
    fi
  fi
  if [[ -n "$missing" ]]; then
    instead theirs "$head" missing "$missing"
  else
    run theirs "$1" "$2" "$head" "$python" "$here/peft.py" "${work[@]}"
  fi
}

run ours device 90 "\"what\": \"device\", \"device\": \"$device\"" "$bin" device --device "$device"
if grep -q '"failed"' "$results"; then
  cat "$out/table.md"
  exit 1
fi
# Small products are not worth careful tuning.
run ours parity 90 '"what": "parity"' env CUBECL_AUTOTUNE_LEVEL=minimal "$bin" parity --device "$device"
for batch in "${batches[@]}"; do
  for round in $(seq "$rounds"); do
    part step "$batch"
    run ours "ours-step-$batch-$round" 150 "$head" "$bin" "${work[@]}"
    theirs "theirs-step-$batch-$round" 75
  done
  # With the kernels that the first process has left.
  run ours "ours-step-$batch-again" 60 "$head" "$bin" "${work[@]}" --profile 0
done
part step "${batches[-1]}"
run ours "ours-checkpointed" 60 "$head, \"gradient_checkpointing\": true" \
  "$bin" "${work[@]}" --gradient-checkpointing --profile 0
part step "$small"
run ours "ours-ragged" 75 "$head, \"ragged\": true, \"dropout\": 0.1" \
  "$bin" "${work[@]}" --ragged --dropout 0.1 --warmup 0 --iterations 20 --profile 0
run ours "ours-nf4" 75 "$head, \"quantization\": \"nf4\"" "$bin" "${work[@]}" --quantization nf4
for batch in "${batches[@]}"; do
  for round in $(seq "$rounds"); do
    part infer "$batch"
    run ours "ours-infer-$batch-$round" 60 "$head" "$bin" "${work[@]}"
    theirs "theirs-infer-$batch-$round" 45
  done
done

check() { # key, reason
  printf '{"check": "The demo, CPU against CUDA (run.sh)"%s}\n' "${1:+, \"$1\": $(quoted "$2")}" >>"$results"
}
if [[ "$device" != cuda* ]]; then
  check missing "the device is $device"
elif [[ ! -x "$cli" ]]; then
  check missing "no ls-cli beside ls-bench-gpu"
elif ! command -v python3 >/dev/null; then
  check missing "no python3"
elif ! limit="$(allowed 180)"; then
  check missing "no time left"
else
  echo "== the demo (at most $limit s)" >&2
  if timeout --kill-after=5 "$limit" "$here/run.sh" "$cli" "$out/demo" >"$out/demo.txt" 2>"$out/demo.log"; then
    check
  else
    check failed "see demo.txt and demo.log"
  fi
  cat "$out/demo.txt" >&2
fi

rm -rf "$out/cache"
"$bin" table --results "$results" | tee "$out/table.md"
