#!/usr/bin/env bash
# `ls-cli serve` beside transformers' pipeline behind FastAPI: the same classifier, the same texts,
# the same clients, one after the other on an idle machine.
#
#   benches/serve/run.sh MODEL TEXTS PYTHON OUT
#
# MODEL is a folder of a LLaMA in Hugging Face's layout (SmolLM2-135M), TEXTS has a text a line,
# PYTHON has torch, transformers, fastapi and uvicorn. OUT gets runs, answers and results.jsonl; a
# run that is there is taken. SECONDS_EACH (20) is how long each is asked, ADAPTERS (8) how many are
# asked at once, BATCHES ("8 16 32 64") what the pipeline takes at most at a time.
set -euo pipefail
model=$(realpath "$1") texts=$(realpath "$2") python=$3 out=$4
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root="$here/../.."
seconds=${SECONDS_EACH:-20} adapters=${ADAPTERS:-8}
threads=$(nproc)
# At once: each alone would be built with other features of what both use.
cargo build --manifest-path "$root/Cargo.toml" -p ls-cli --bin ls-cli -p ls-benches --bin ls-bench-serve
programs="$(realpath "${CARGO_TARGET_DIR:-$root/target}/debug")"
data="$(realpath "$root/datasets/demo/sentiment")"
mkdir -p "$out"
cd "$out"
: > results.jsonl

for seed in $(seq "$adapters"); do
  [ -f "a$seed/report.json" ] || "$programs/ls-cli" train --config "$here/classifier.toml" \
    --set "model.path=$model" --set "data.train=$data/train.tsv" \
    --set "data.validation=$data/validation.tsv" --set "train.seed=$seed" --run "a$seed" -q
done
[ -d whole ] || "$programs/ls-cli" export --run a1 --out whole --merge -q

"$python" - "$texts" "$adapters" <<'INPUTS'
import json, sys
texts = [line.strip() for line in open(sys.argv[1]) if line.strip()][:400]
with open("inputs.jsonl", "w") as out:
    out.writelines(json.dumps({"text": text}) + "\n" for text in texts)
INPUTS
for seed in $(seq "$adapters"); do
  "$programs/ls-cli" predict --run "a$seed" --input inputs.jsonl -q > "answers$seed.jsonl"
done
"$python" - "$adapters" <<'QUESTIONS'
import json, sys
def question(path, answer):
    answer = json.loads(answer)
    scores = sorted(answer["scores"].items(), key=lambda label: -label[1])
    labels = [{"score": score, "label": label} for label, score in scores]
    return {"path": path, "body": {"inputs": answer["text"]}, "answer": labels}
files = [list(open(f"answers{seed}.jsonl")) for seed in range(1, int(sys.argv[1]) + 1)]
with open("one.jsonl", "w") as one, open("all.jsonl", "w") as all, open("rival.jsonl", "w") as rival:
    for at in range(len(files[0])):
        first = question("/models/a1/predict", files[0][at])
        one.write(json.dumps(first) + "\n")
        rival.write(json.dumps({"path": "/predict", "body": first["body"]}) + "\n")
        for seed, answers in enumerate(files, 1):
            all.write(json.dumps(question(f"/models/a{seed}/predict", answers[at])) + "\n")
QUESTIONS

# ask NAME PORT QUESTIONS FLAGS...: one line of results, named.
ask() {
  local name=$1 port=$2 questions=$3 line
  shift 3
  line=$("$programs/ls-bench-serve" --address "127.0.0.1:$port" --questions "$questions" \
    --seconds "$seconds" --answer-all "$@")
  "$python" -c 'import json, sys; print(json.dumps({"name": sys.argv[1], **json.loads(sys.argv[2])}))' \
    "$name" "$line" | tee -a results.jsonl
}
# until PORT answers
answers() {
  for _ in $(seq 600); do
    (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null && return
    sleep 0.1
  done
  echo "nothing answers at port $1" >&2
  exit 1
}
per_second() { "$python" -c 'import json, sys
print([json.loads(line)["per_second"] for line in open("results.jsonl") if json.loads(line)["name"] == sys.argv[1]][-1] * float(sys.argv[2]))' "$1" "$2"; }

runs=()
for seed in $(seq "$adapters"); do runs+=(--run "a$seed"); done
"$programs/ls-cli" serve "${runs[@]}" --port 18080 -q &
service=$!
trap 'kill $service ${rival:-} 2> /dev/null || true' EXIT
answers 18080
ask warm 18080 one.jsonl --clients 8 --requests 50
ask "one client" 18080 one.jsonl --clients 1
ask "64 clients" 18080 one.jsonl --clients 64
ask "64 clients, $adapters adapters" 18080 all.jsonl --clients 64
for part in 0.5 0.9; do
  ask "at $part of that" 18080 one.jsonl --clients 256 --rate "$(per_second "64 clients" $part)"
done
kill -TERM $service
wait $service

for batch in ${BATCHES:-8 16 32 64}; do
  "$python" "$here/rival.py" whole 18081 "$threads" "$batch" > "rival$batch.log" 2>&1 &
  rival=$!
  answers 18081
  # It is the same classifier.
  "$python" - <<'SAME'
import json, urllib.request
# Whatever proxy the environment names.
asker = urllib.request.build_opener(urllib.request.ProxyHandler({}))
asked = [json.loads(line) for line in open("one.jsonl")][:50]
same = 0
for question in asked:
    body = json.dumps(question["body"]).encode()
    request = urllib.request.Request("http://127.0.0.1:18081/predict", body, {"Content-Type": "application/json"})
    same += json.load(asker.open(request))[0]["label"] == question["answer"][0]["label"]
assert same >= len(asked) - 1, f"{same} of {len(asked)} labels are the same"
SAME
  ask warm 18081 rival.jsonl --clients 8 --requests 50
  ask "FastAPI, batches of $batch, one client" 18081 rival.jsonl --clients 1
  ask "FastAPI, batches of $batch, 64 clients" 18081 rival.jsonl --clients 64
  kill -TERM $rival
  wait $rival || true
done

"$python" - <<'TABLE'
import json
print("| | answers a second | p50 ms | p99 ms |\n|---|---|---|---|")
for line in open("results.jsonl"):
    row = json.loads(line)
    if row["name"] != "warm":
        print(f"| {row['name']} | {row['per_second']} | {row['p50_ms']} | {row['p99_ms']} |")
TABLE
