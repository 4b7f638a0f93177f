#!/usr/bin/env bash
# Many requests to `ls-cli serve`, each answer held against the one of `ls-cli predict`: nothing is
# lost, doubled, swapped or refused, and memory stays where it is: within 5% behind the first tenth,
# or this ends with 1.
#
#   benches/serve/soak.sh OUT [REQUESTS] [CLIENTS]
#
# Three adapters of the demonstration's model (two classifiers and a tagger) are asked for texts of
# 1 to 40 words, the questions shuffled, alone and in lists of two, by 200 clients, a million times:
# as fast as they are answered, or RATE times a second (RATE=280 makes it an hour). OUT gets runs,
# questions and memory.tsv.
set -euo pipefail
out=$1 requests=${2:-1000000} clients=${3:-200}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root="$here/../.."
# At once: each alone would be built with other features of what both use.
cargo build --manifest-path "$root/Cargo.toml" -p ls-cli --bin ls-cli -p ls-benches --bin ls-bench-serve
programs="$(realpath "${CARGO_TARGET_DIR:-$root/target}/debug")"
mkdir -p "$out"
cd "$out"
train() { [ -f "$1/report.json" ] || "$programs/ls-cli" train --run "$@" -q > /dev/null; }
train first --config demo-sentiment
train second --config demo-sentiment --set train.seed=2 --set model.attention=bidirectional
train words --config demo-ner

python3 - <<'INPUTS'
import json, random
random.seed(1)
words = "the film was good bad Anna Zürich 東京 boring \U0001F600 camera lake and never Bob in Paris é".split()
with open("inputs.jsonl", "w") as out:
    for _ in range(2000):
        text = " ".join(random.choices(words, k=random.randint(1, 40)))
        out.write(json.dumps({"text": text}) + "\n")
INPUTS
for run in first second words; do
  "$programs/ls-cli" predict --run "$run" --input inputs.jsonl -q > "$run.jsonl"
done
python3 - <<'QUESTIONS'
import json, random
random.seed(2)
def labels(answer):
    scores = sorted(answer["scores"].items(), key=lambda label: -label[1])
    return [{"score": score, "label": label} for label, score in scores]
def entities(answer):
    names = {"type": "entity_group", "score": "score", "text": "word", "start": "start", "end": "end"}
    return [{names[key]: value for key, value in entity.items() if key in names} for entity in answer["entities"]]
questions = []
for run, path, shape in [("first", "predict", labels), ("second", "predict", labels), ("words", "ner", entities)]:
    for line in open(f"{run}.jsonl"):
        answer = json.loads(line)
        text = answer["text"]
        questions.append({"path": f"/models/{run}/{path}", "body": {"inputs": text}, "answer": shape(answer)})
# Lists of neighbours, whose answers may be swapped within one too.
for first, second in list(zip(questions[::10], questions[1::10])):
    if first["path"] == second["path"]:
        texts = [question["body"]["inputs"] for question in (first, second)]
        inputs = texts if first["path"].endswith("ner") else [[text] for text in texts]
        questions.append({**first, "body": {"inputs": inputs}, "answer": [first["answer"], second["answer"]]})
random.shuffle(questions)
print(len({json.dumps(question["answer"]) for question in questions}), "different answers to", len(questions), "questions")
with open("questions.jsonl", "w") as out:
    out.writelines(json.dumps(question) + "\n" for question in questions)
QUESTIONS

"$programs/ls-cli" serve --run first --run second --run words --port 18082 -q &
service=$!
trap 'kill $service ${watch:-} 2> /dev/null || true' EXIT
for _ in $(seq 100); do
  (exec 3<> /dev/tcp/127.0.0.1/18082) 2> /dev/null && break
  sleep 0.1
done
(while sleep 5 && kill -0 $service; do
  echo "$(date +%s) $(awk '/VmRSS/ { print $2 }' "/proc/$service/status")"
done > memory.tsv 2> /dev/null) &
watch=$!
"$programs/ls-bench-serve" --address 127.0.0.1:18082 --questions questions.jsonl \
  --clients "$clients" --requests "$requests" --answer-all ${RATE:+--rate "$RATE"}
kill -0 $watch
kill -TERM $service
wait $service
python3 - <<'MEMORY'
kib = [int(line.split()[1]) for line in open("memory.tsv") if len(line.split()) == 2]
later = kib[len(kib) // 10 :]
assert later, "too short: nobody looked at the memory"
print(f"resident memory: {min(later) / 1024:.1f} to {max(later) / 1024:.1f} MiB behind the first tenth of {len(kib)} looks")
assert max(later) <= 1.05 * min(later), "it grew by more than 5%"
MEMORY
