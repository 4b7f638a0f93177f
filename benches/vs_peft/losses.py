#!/usr/bin/env python3
"""Compares and draws the losses of two runs, step by step: the end of losses.sh.

    python losses.py OURS.jsonl THEIRS.jsonl --out losses.svg
"""

import argparse
import json
import math
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

STEPS, TOLERANCE = 200, 1e-3


def losses(path):
    records = map(json.loads, path.read_text().splitlines())
    return [record["loss"] for record in records if record["kind"] == "step"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="SVG to write")
    args = parser.parse_args()
    ours, theirs = losses(args.ours), losses(args.theirs)
    if len(ours) != len(theirs) or len(ours) < STEPS:
        sys.exit(f"{len(ours)} and {len(theirs)} steps, expected as many on both sides and at least {STEPS}")
    apart = [abs(a - b) for a, b in zip(ours, theirs)]

    # The same data must give the same file.
    plt.rcParams.update({"svg.hashsalt": "losses", "svg.fonttype": "none", "font.size": 9})
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(8, 5), layout="constrained", height_ratios=[2, 1])
    steps = range(1, len(ours) + 1)
    top.plot(steps, theirs, color="#d95f02", linewidth=1.6, label="transformers + peft")
    top.plot(steps, ours, color="#1b3a5c", linewidth=0.6, label="ls-llama")
    top.set_ylabel("loss of the step")
    top.legend(loc="upper right")
    bottom.semilogy(steps, [max(value, 1e-9) for value in apart], color="#1b3a5c", linewidth=0.6)
    bottom.axhline(TOLERANCE, color="#999999", linewidth=0.8, linestyle="--")
    bottom.axvline(STEPS, color="#999999", linewidth=0.8, linestyle="--")
    bottom.set_ylabel("difference")
    bottom.set_xlabel("step")
    figure.savefig(args.out, metadata={"Date": None})

    found = {
        "steps": len(ours),
        "first_200": max(apart[:STEPS]),
        "all": max(apart),
        "mean_loss": [sum(ours) / len(ours), sum(theirs) / len(theirs)],
    }
    print(json.dumps(found))
    # Written so that NaN is not taken for agreement.
    sys.exit(0 if all(value <= TOLERANCE and math.isfinite(value) for value in apart[:STEPS]) else 1)


if __name__ == "__main__":
    main()
