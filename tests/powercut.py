"""Cuts the power under a training and a prediction, and looks at what is left.

    python3 tests/powercut.py target/debug/ls-cli [--runs 60] [--seed 1]

Linux only, as root: it needs a loop device, mkfs.ext4 and mount. Each run is on a fresh ext4 in a
file of its own. The cut is ext4's shutdown ioctl without a flush of its log, at a random moment:
what was not synced by then is lost, as on a machine whose power fails. Then the file system is
mounted anew, which replays its journal, and this must hold:

- Where `best/` is, all of it is whole, it is that of some evaluation, and `predict` works.
- Every other file that is kept is whole or not there; metrics.jsonl has whole lines up to the
  evaluation of `best/`, and may lose what came after.
- After exit 0 everything is there, adapter and predictions with the bytes of an undisturbed run.
- `train --resume`, where the program has it, ends with the bytes of the undisturbed run.
- A file of `predict --output` is the old one or the new one, and the new one after exit 0. It is
  whole after another `predict`, which goes on with what the first one left.

Half of the runs mount with `noauto_da_alloc`: by default ext4 itself writes a file to the disk that
is renamed over another, which would hide what is forgotten. Nothing is left behind: the loop device
and the files are removed.
"""

import argparse
import fcntl
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

# _IOR('X', 125, __u32), EXT4_GOING_FLAGS_NOLOGFLUSH
EXT4_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2
TRAIN = ["train", "--config", "demo-sentiment", "--set", "train.epochs=1",
         "--set", "train.eval_steps=7", "--set", "train.baselines=false"]
BEST = ["README.md", "adapter_config.json", "adapter_model.safetensors", "labels.json",
        "ls_llama.json", "tokenizer.json", "tokenizer_config.json"]
KEPT = ["config.toml", "environment.json", "metrics.jsonl", "predictions.jsonl", "report.json"]


class Disk:
    """A small ext4 whose power can be cut."""

    def __init__(self, work):
        self.image, self.place = work / "image", work / "disk"
        self.place.mkdir()

    def make(self, options):
        with open(self.image, "wb") as image:
            image.truncate(128 << 20)
        run("mkfs.ext4", "-q", "-F", self.image)
        self.options = options
        self.mount()

    def mount(self):
        run("mount", "-o", ",".join(["loop", *self.options]), self.image, self.place)

    def cut(self):
        at = os.open(self.place, os.O_RDONLY)
        fcntl.ioctl(at, EXT4_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        os.close(at)

    def unmount(self):
        self.until(lambda: not run_free("umount", self.place).returncode, "umount")
        # Whoever copied the mounts meanwhile still holds the old file system, which is shut down; a
        # new mount would be that one again.
        self.until(lambda: not run_free("losetup", "-j", self.image).stdout, "its loop device")

    def until(self, done, what):
        for _ in range(200):
            if done():
                return
            time.sleep(0.1)
        raise OSError(f"{self.image}: {what} does not end")


def run_free(*command):
    return subprocess.run(list(map(str, command)), capture_output=True)


def run(*command):
    run_free(*command).check_returncode()


def ls(args, folder):
    return subprocess.run([PROGRAM, *map(str, args)], cwd=folder, capture_output=True, text=True)


def whole(path):
    """The bytes of a file, which must not be empty and, by its ending, be what it should be."""
    data = path.read_bytes()
    assert data and not data.strip(b"\0") == b"", f"{path} has {len(data)} bytes"
    if path.suffix == ".json":
        json.loads(data)
    if path.suffix == ".jsonl" and path.name != "metrics.jsonl":
        for line in data.splitlines():
            json.loads(line)
    return data


def check_training(folder, reference, ended, resumes):
    """Looks at a run folder after the cut; says what it was like."""
    out = folder / "out"
    best = out / "best"
    if not best.exists() and (out / ".best.last").exists():
        best = out / ".best.last"
    for name in KEPT:
        if (out / name).exists() and name != "metrics.jsonl":
            whole(out / name)
    state = "nothing"
    if best.exists():
        state = "best"
        for name in BEST:
            found = whole(best / name)
            if name in ("tokenizer.json", "tokenizer_config.json", "labels.json"):
                assert found == (reference / "best" / name).read_bytes(), f"another {name}"
        lines = (out / "metrics.jsonl").read_bytes().split(b"\n")
        records = [json.loads(line) for line in lines[:-1]]
        assert any(record.get("best") for record in records), "no evaluation in metrics.jsonl"
        found = ls(["predict", "--run", "out", "a good film"], folder)
        assert found.returncode == 0, f"predict: {found.stderr}"
    if ended:
        state = "all"
        # The others name the folder of the base model.
        for name in ("best/adapter_model.safetensors", "predictions.jsonl"):
            assert (out / name).read_bytes() == (reference / name).read_bytes(), name
        assert all((out / name).exists() for name in KEPT), os.listdir(out)
    elif resumes and (out / "metrics.jsonl").exists() and (out / "config.toml").exists():
        found = ls(["train", "--resume", "out"], folder)
        assert found.returncode == 0, f"resume: {found.stderr}"
        for name in ("best/adapter_model.safetensors", "predictions.jsonl"):
            assert (out / name).read_bytes() == (reference / name).read_bytes(), name
        state += ", resumed"
    leftovers = [path for path in out.rglob(".tmp-*")] if ended and out.exists() else []
    assert not leftovers, leftovers
    return state


def check_prediction(folder, answers, ended, command):
    out = folder / "answers.jsonl"
    state = state_of_prediction(out, answers, ended)
    # Without --resume where nothing is left, as after a prediction that ended.
    resume = ["--resume"] if (folder / "answers.jsonl.part").exists() else []
    found = ls([*command, "answers.jsonl", *resume], folder)
    assert found.returncode == 0, f"again: {found.stderr}"
    assert out.read_bytes() == answers, "other answers the second time"
    left = [path.name for path in folder.iterdir() if ".part" in path.name]
    assert not left, left
    return state + (", continued" if resume else "")


def state_of_prediction(out, answers, ended):
    found = out.read_bytes() if out.exists() else None
    if ended:
        assert found == answers, f"{None if found is None else len(found)} bytes after exit 0"
        return "new"
    assert found in (None, b"old\n", answers), f"{len(found)} bytes"
    return {None: "none", b"old\n": "old"}.get(found, "new")


def cut_under(disk, command, wait):
    """Begins a command, cuts the power after so many seconds or at its end; whether it ended."""
    child = subprocess.Popen([PROGRAM, *map(str, command)], cwd=disk.place,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        code = child.wait(wait)
    except subprocess.TimeoutExpired:
        code = None
    disk.cut()
    child.kill()
    child.wait()
    assert code in (None, 0), f"exit code {code}"
    disk.unmount()
    disk.mount()
    return code == 0


def main():
    global PROGRAM
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    PROGRAM = pathlib.Path(args.program).resolve()
    rng = random.Random(args.seed)
    # So that nothing is left mounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    resumes = "--resume" in ls(["train", "--help"], ".").stdout
    work = pathlib.Path(tempfile.mkdtemp(prefix="powercut-"))
    disk = Disk(work)
    counts, faults = {}, []
    try:
        calm = work / "calm"
        calm.mkdir()
        began = time.time()
        found = ls([*TRAIN, "--run", "out"], calm)
        assert found.returncode == 0, found.stderr
        seconds = time.time() - began
        reference = calm / "out"
        texts = (calm / "runs").glob("*/sentiment/train.tsv")
        (calm / "in.tsv").write_bytes(next(texts).read_bytes())
        predict = ["predict", "--run", reference, "--input", calm / "in.tsv", "--output"]
        began = time.time()
        found = ls([*predict, calm / "answers.jsonl"], calm)
        assert found.returncode == 0, found.stderr
        predict_seconds = time.time() - began
        answers = (calm / "answers.jsonl").read_bytes()
        for number in range(args.runs):
            disk.make(["noauto_da_alloc"] if number % 2 else [])
            training = number % 4 != 3
            # Some are cut right at their end, where what was not synced is lost after exit 0.
            at_end = number % 3 == 0
            duration = 1.1 * (seconds if training else predict_seconds)
            wait = None if at_end else rng.uniform(0, duration)
            kind = "train" if training else "predict"
            try:
                if training:
                    ended = cut_under(disk, [*TRAIN, "--run", "out"], wait)
                    state = check_training(disk.place, reference, ended, resumes)
                else:
                    (disk.place / "answers.jsonl").write_bytes(b"old\n") if number % 8 == 3 else None
                    os.sync()
                    ended = cut_under(disk, [*predict, "answers.jsonl"], wait)
                    state = check_prediction(disk.place, answers, ended, predict)
            except AssertionError as error:
                ended, state = None, "FAULT"
                faults.append(f"run {number} ({kind}, cut after {wait}): {error}")
            finally:
                disk.unmount()
            key = f"{kind}, {'after exit 0' if ended else 'in the middle'}: {state}"
            counts[key] = counts.get(key, 0) + 1
            print(f"{number + 1}/{args.runs} {key}", flush=True)
    finally:
        subprocess.run(["umount", disk.place], capture_output=True)
        shutil.rmtree(work)
    print(f"seed {args.seed}: {args.runs} cuts, {len(faults)} faults")
    for key, count in sorted(counts.items()):
        print(f"{count:4} {key}")
    for fault in faults:
        print("FAULT", fault)
    sys.exit(bool(faults))


main()
