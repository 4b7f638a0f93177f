#!/usr/bin/env python3
"""Lets the sides of epoch.sh train by turns and compares them.

Each side is one process that trains its epoch from the beginning to the end. Only one of them runs at a time: the others are
stopped (SIGSTOP), so that whatever slows the machine for a while slows all of them. The first step of a turn does not count,
because the side was stopped in it.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ORDERS = {"shuffled": "false", "by length": "true"}
# Name, order, padding; without a padding it is this project's.
SIDES = [
    ("ours, shuffled", "shuffled", None),
    ("padded to 64", "shuffled", "max_length"),
    ("ours, by length", "by length", None),
    ("padded to the longest", "by length", "longest"),
]
TOLERANCE = 1e-2


class Side:
    """A process that trains, and the steps that it has told of."""

    def __init__(self, name, order, padding, command, env, metrics, log):
        self.name, self.order, self.padding = name, order, padding
        self.command, self.env, self.metrics, self.log = command, env, metrics, log
        self.process = self.file = None
        self.rest, self.steps, self.end, self.counts = "", [], {}, set()

    def start(self):
        self.process = subprocess.Popen(
            self.command, env=self.env, stdout=subprocess.DEVNULL, stderr=self.log.open("w")
        )

    def read(self):
        if self.file is None and self.metrics.exists():
            self.file = self.metrics.open()
        if self.file is None:
            return
        *lines, self.rest = (self.rest + self.file.read()).split("\n")
        for record in map(json.loads, lines):
            if record["kind"] == "step":
                self.steps.append(record)
            elif record["kind"] == "end":
                self.end = record

    def turn(self, until, last):
        """Runs until step `until` is done, or to the end if that is the last."""
        first = len(self.steps)
        self.process.send_signal(signal.SIGCONT)
        while len(self.steps) < until or until == last:
            done = self.process.poll()
            self.read()
            if done is not None:
                if done != 0 or len(self.steps) < last:
                    sys.exit(f"{self.name}: ended with {done} after {len(self.steps)} steps\n{self.log.read_text()[-3000:]}")
                break
            time.sleep(0.005)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
        # Steps are numbered from 1; the next one was stopped in.
        self.counts.update(range(first + 2, len(self.steps) + 1))


def sides(args):
    """Writes each order and the adapter to begin with, and makes the commands."""
    runs, model = args.out / "runs", args.out / "135m" / "model"
    env = {**os.environ, "RAYON_NUM_THREADS": str(args.threads)}
    files = [f"model.path={model}"] + [f"data.{key}={args.out}/data/{file}.tsv" for key, file in (("train", "train"), ("validation", "dev"))]
    for name, order, padding in SIDES:
        settings = ["--config", str(HERE / "epoch.toml")]
        for assignment in [*files, f"train.group_by_length={ORDERS[order]}"]:
            settings += ["--set", assignment]
        batches, run = runs / order.replace(" ", "-"), runs / name.replace(" ", "-").replace(",", "")
        if padding is None:
            subprocess.run([args.programs / "ls-bench-epoch", *settings, "--out", batches], check=True, env=env)
            command = [args.programs / "ls-cli", "train", *settings, "--run", run]
            metrics = run / "metrics.jsonl"
        else:
            command = [sys.executable, HERE / "epoch.py", "--model", model, "--adapter", batches / "adapter", "--data", args.out / "data" / "train.tsv"]
            command += ["--order", batches / "order.json", "--padding", padding, "--threads", str(args.threads)]
            metrics = runs / f"{run.name}.jsonl"
            command += ["--metrics", metrics]
        yield Side(name, order, padding, [str(word) for word in command], env, metrics, runs / f"{run.name}.log")


def compare(mine, other):
    """Ratio of the times of the steps that count on both sides, by window too, and the largest difference of the losses."""
    both = sorted(mine.counts & other.counts)
    seconds = lambda side, steps: sum(side.steps[step - 1]["seconds"] for step in steps)
    starts = [step for at, step in enumerate(both) if at == 0 or both[at - 1] != step - 1] + [both[-1] + 1]
    windows = [[step for step in both if a <= step < b] for a, b in zip(starts, starts[1:])]
    ratios = [seconds(other, window) / seconds(mine, window) for window in windows]
    losses = [(a["loss"], b["loss"]) for a, b in zip(mine.steps, other.steps, strict=True)]
    # Written so that NaN is not taken for agreement.
    apart = max(abs(a - b) / abs(b) if a == a and b == b else float("inf") for a, b in losses)
    return seconds(other, both) / seconds(mine, both), ratios, apart


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--programs", type=Path, required=True, help="folder of the built programs")
    parser.add_argument("--out", type=Path, required=True, help="folder of epoch.sh")
    parser.add_argument("--window", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    (args.out / "runs").mkdir(parents=True)
    running = list(sides(args))
    order = json.loads((args.out / "runs" / "shuffled" / "order.json").read_text())
    total, lengths = len(order["batches"]), order["lengths"]
    print(f"{len(lengths)} sentences, {sum(lengths) / len(lengths):.1f} tokens each, {total} steps of 8", flush=True)
    try:
        for side in running:
            side.start()
            side.turn(1, total)
        for until in [*range(1 + args.window, total, args.window), total]:
            for side in running:
                side.turn(until, total)
            print(f"  step {until} of {total}", file=sys.stderr, flush=True)
    finally:
        for side in running:
            if side.process is not None and side.process.poll() is None:
                side.process.kill()

    for side in running:
        if side.padding is None:
            report = json.loads((side.metrics.parent / "report.json").read_text())
            side.end = {"peak_rss_mib": report["peak_memory"] / 2**20}
    print(f"\n{args.threads} threads, " + ", ".join(f"{name} {version}" for name, version in running[1].end["versions"].items()))
    print("\n| side | batches | median step | epoch | peak MiB (libraries alone) |\n|---|---|---|---|---|")
    for side in running:
        times = [side.steps[step - 1]["seconds"] for step in sorted(side.counts)]
        libraries = side.end.get("peak_rss_libraries_mib")
        print(
            f"| {side.name} | {side.order} | {statistics.median(times) * 1000:.0f} ms | {statistics.mean(times) * total:.0f} s "
            f"| {side.end['peak_rss_mib']:.0f}{f' ({libraries:.0f})' if libraries else ''} |"
        )
    print("\n| the epoch takes | times ours | windows | peak memory, ours / theirs | losses apart |\n|---|---|---|---|---|")
    ours, padded, grouped, best = running
    worst = 0.0
    for mine, other in ((ours, padded), (grouped, best)):
        ratio, ratios, apart = compare(mine, other)
        worst = max(worst, apart)
        memory = mine.end["peak_rss_mib"] / other.end["peak_rss_mib"]
        spread = f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f} of {len(ratios)}"
        print(f"| {other.name}, same batches | {ratio:.2f} | {spread} | {memory:.2f} | {apart:.1e} |")
    mean = lambda side: statistics.mean(side.steps[step - 1]["seconds"] for step in side.counts)
    print(f"| padded to 64, against ours by length | {mean(padded) / mean(grouped):.2f} | | | |")
    if worst > TOLERANCE:
        sys.exit(f"the losses differ by up to {worst:.1e} of theirs")


if __name__ == "__main__":
    main()
