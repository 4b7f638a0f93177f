#!/usr/bin/env bash
# How long polite clients of `ls-cli serve` wait while others are rude (`rude.py` says how), and how
# much memory it has then; and how long it takes to its first answer.
#
#   benches/serve/rude.sh OUT [RATE]
#
# 128 clients ask the demonstration's classifier RATE (200) times a second for SECONDS_EACH (20)
# seconds, with nobody else and beside each kind of rude ones; they and the service share a machine.
# A polite client whose request is refused (429) is counted apart, and so is any other status. OUT
# gets the run and results.jsonl. Ends with 1 where an answer was wrong or lost, where a status was
# neither 200 nor 429, or where the service had more memory than MOST_MIB (128).
set -euo pipefail
out=$1 rate=${2:-200} seconds=${SECONDS_EACH:-20}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root="$here/../.."
# At once: each alone would be built with other features of what both use.
cargo build --manifest-path "$root/Cargo.toml" -p ls-cli --bin ls-cli -p ls-benches --bin ls-bench-serve
programs="$(realpath "${CARGO_TARGET_DIR:-$root/target}/debug")"
mkdir -p "$out"
cd "$out"
[ -f run/report.json ] || "$programs/ls-cli" train --run run --config demo-sentiment -q > /dev/null
tail -n +2 "$root/datasets/demo/sentiment/test.tsv" | cut -f 1 > texts.txt
"$programs/ls-cli" predict --run run --input texts.txt -q > answers.jsonl
python3 - <<'QUESTIONS'
import json
with open("questions.jsonl", "w") as out:
    for line in open("answers.jsonl"):
        answer = json.loads(line)
        scores = sorted(answer["scores"].items(), key=lambda label: -label[1])
        labels = [{"score": score, "label": label} for label, score in scores]
        out.write(json.dumps({"path": "/predict", "body": {"inputs": answer["text"]}, "answer": labels}) + "\n")
QUESTIONS
: > results.jsonl

# serving FLAGS...: starts it, and waits until it listens.
serving() {
  "$programs/ls-cli" serve --run run --port 18083 -q "$@" &
  service=$!
  until (exec 3<> /dev/tcp/127.0.0.1/18083) 2> /dev/null; do
    kill -0 $service
    sleep 0.05
  done
}
trap 'kill ${service:-} ${rude:-} 2> /dev/null || true' EXIT
# ended PROCESS: asks it to, and fails where it does not end well.
ended() { kill -TERM "$1" && wait "$1"; }
# polite NAME: one line of results; the peak of memory is that since it was started.
polite() {
  line=$("$programs/ls-bench-serve" --address 127.0.0.1:18083 --questions questions.jsonl \
    --seconds "$seconds" --clients 128 --rate "$rate") || true
  peak=$(awk '/VmHWM/ { print $2 }' "/proc/$service/status")
  python3 -c 'import json, sys; print(json.dumps({"name": sys.argv[1], **json.loads(sys.argv[2]), "peak_mib": int(sys.argv[3]) // 1024}))' \
    "$1" "$line" "$peak" | tee -a results.jsonl
}

for kind in nobody slow half cut garbage large words flood; do
  serving --max-queue-tokens 8192
  if [ "$kind" != nobody ]; then
    python3 "$here/rude.py" "$kind" 18083 > "$kind.json" &
    rude=$!
    sleep 2
  fi
  polite "$kind"
  if [ "$kind" != nobody ]; then
    ended "$rude"
    rude=
    echo "$kind were answered: $(cat "$kind.json")"
  fi
  ended "$service"
  service=
done

# From the start of the program to its first answer, and of the same answer by predict, which loads
# the same and ends.
python3 - "$programs/ls-cli" <<'START'
import http.client, json, statistics, subprocess, sys, time
program = sys.argv[1]
text = json.loads(open("answers.jsonl").readline())["text"]
def serve():
    began = time.perf_counter()
    service = subprocess.Popen([program, "serve", "--run", "run", "--port", "18083", "-q"])
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 18083)
            connection.request("POST", "/predict", json.dumps({"inputs": text}), {"Content-Type": "application/json"})
            assert connection.getresponse().status == 200
            break
        except ConnectionRefusedError:
            time.sleep(0.002)
    took = time.perf_counter() - began
    service.terminate()
    service.wait()
    return took
def predict():
    began = time.perf_counter()
    subprocess.run([program, "predict", "--run", "run", "-q", text], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
times = [(serve(), predict()) for _ in range(11)]
first, whole = (statistics.median(of) for of in zip(*times))
print(f"from the start to the first answer: {first * 1000:.0f} ms; predict, from start to end: {whole * 1000:.0f} ms")
START

python3 - <<'TABLE'
import json, os
print("| beside | answered | refused | otherwise | wrong or lost | p50 ms | p99 ms | peak MiB |\n|---|---|---|---|---|---|---|---|")
most = faults = 0
for line in open("results.jsonl"):
    row = json.loads(line)
    refused = row["statuses"].get("429", 0)
    otherwise = sum(n for status, n in row["statuses"].items() if status not in ("200", "429"))
    wrong = row["wrong_answers"] + row["lost"]
    most, faults = max(most, row["peak_mib"]), faults + wrong + otherwise
    print(f"| {row['name']} | {row['answered']} | {refused} | {otherwise} | {wrong} | {row['p50_ms']} | {row['p99_ms']} | {row['peak_mib']} |")
allowed = int(os.environ.get("MOST_MIB", 128))
assert most <= allowed, f"{most} MiB, and {allowed} are allowed"
assert faults == 0, f"{faults} answers are wrong, lost, or none"
TABLE
