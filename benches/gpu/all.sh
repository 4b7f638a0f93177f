#!/usr/bin/env bash
# Everything that is measured on a GPU, in a few minutes: parity with the CPU, training steps and
# inference of LLaMA-2-7B's shape with random weights beside transformers + peft by turns, memory,
# the share of the bf16 rate, a profile, and the demo (run.sh).
#
#     benches/gpu/all.sh PACK_OR_BIN PYTHON OUT
#
# PACK_OR_BIN: a folder with ls-bench-gpu (and ls-cli, for the demo), or ls-bench-gpu itself.
# PYTHON: one with torch for CUDA, transformers and peft. OUT: a new folder; OUT/results.jsonl and
# OUT/table.md are made, and a log of every run.
#
# A side that is missing or runs out of memory is a row of the table. Exits with 1 if a limit is
# missed. From the environment: DEVICE (cuda), SHAPE (7b), BATCHES ("8x64 32x512"), ROUNDS (2),
# WARMUP (5), ITERATIONS (7), MATRIX (8192), LIMIT_S (900, of one run).
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

device="${DEVICE:-cuda}" shape="${SHAPE:-7b}" rounds="${ROUNDS:-2}"
settings=(--device "$device" --warmup "${WARMUP:-5}" --iterations "${ITERATIONS:-7}" --matrix "${MATRIX:-8192}")

if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | tee "$out/gpu.txt" >&2
fi

# Why the other side cannot run; empty if it can.
missing=""
probe="import torch, transformers, peft"
[[ "$device" == cuda* ]] && probe+='
assert torch.cuda.is_available(), "torch sees no GPU"'
if ! command -v "$python" >/dev/null; then
  missing="no $python"
elif ! "$python" -c "$probe" >"$out/python.log" 2>&1; then
  missing="$(tail -n 1 "$out/python.log")"
fi
[[ -n "$missing" ]] && echo "transformers + peft is not measured: $missing" >&2

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
  elif [[ $1 -eq 124 ]]; then
    echo "took too long"
  else
    echo "failed, see $(basename "$2")"
  fi
}

failure() { # side, head of the result, reason
  printf '{"side": "%s", "result": {%s, "failed": %s}}\n' "$1" "$2" "$(quoted "$3")" >>"$results"
  echo "   $3" >&2
}

# One process: its lines go to the results.
run() { # side, name, head of the result, command...
  local side="$1" name="$2" head="$3" status=0
  shift 3
  echo "== $name" >&2
  timeout "${LIMIT_S:-900}" "$@" >"$out/$name.json" 2>"$out/$name.log" || status=$?
  sed "s/^/{\"side\": \"$side\", \"result\": /; s/\$/}/" "$out/$name.json" >>"$results"
  # What is too far off exits with 1 too, and says so in its lines.
  if [[ $status -ne 0 ]] && { [[ $status -ne 1 ]] || [[ -s "$out/$name.log" ]]; }; then
    failure "$side" "$head" "$(reason "$status" "$out/$name.log")"
  fi
}

run ours parity '"what": "parity"' "$bin" parity --device "$device"
for batch in ${BATCHES:-8x64 32x512}; do
  rows="${batch%x*}" length="${batch#*x}"
  for what in step infer; do
    head="\"what\": \"$what\", \"rows\": $rows, \"length\": $length"
    work=("$what" "${settings[@]}" --shape "$shape" --rows "$rows" --length "$length")
    for round in $(seq "$rounds"); do
      run ours "ours-$what-$batch-$round" "$head" "$bin" "${work[@]}"
      if [[ -z "$missing" ]]; then
        run theirs "theirs-$what-$batch-$round" "$head" "$python" "$here/peft.py" "${work[@]}"
      elif [[ $round -eq 1 ]]; then
        failure theirs "$head" "$missing"
      fi
    done
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
else
  echo "== the demo" >&2
  if "$here/run.sh" "$cli" "$out/demo" >"$out/demo.txt" 2>"$out/demo.log"; then
    check
  else
    check failed "see demo.txt and demo.log"
  fi
  cat "$out/demo.txt" >&2
fi

"$bin" table --results "$results" | tee "$out/table.md"
