#!/usr/bin/env python3
"""What a checkpoint costs the training: writes a section of docs/benchmarks.md.

    ./scripts/measure_checkpoints.py [--ranks 2] [--repetitions 3] [--every 20] [--supersteps 400]

The CNN with momentum (13 MB of state) on generated data, with checkpoints written beside the training, waited for, and
without any, in turn. Of every checkpoint: the seconds that training stood still for it, all of its pieces together
(`seconds.checkpoint` in metrics.jsonl, slowest rank), against the time that one copy of the state takes. The program is
build/release/superstep, or SUPERSTEP=path.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

from benchmark_report import ENVIRONMENT, PROGRAM, bench, cnn_run, command_line, machine_lines, write_section

STATE_BYTES = 2 * 4 * 1_663_370
OTHER_BYTES = 1 << 27
KINDS = {"beside the training": ("--set", "checkpoint.asynchronous=true"),
         "waited for": ("--set", "checkpoint.asynchronous=false"),
         "none": ("--set", "checkpoint.every_supersteps=1000000")}


def copy_seconds():
    """Of as many bytes as the state has, by one core, when other data went through the cache since, as they do in
    training; the median of some."""
    source, target, others = bytearray(STATE_BYTES), bytearray(STATE_BYTES), bytearray(OTHER_BYTES)
    taken = []
    for _ in range(20):
        others[:] = bytes(OTHER_BYTES)
        begin = time.perf_counter()
        target[:] = source
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def run(config, ranks, every, supersteps, options):
    """Mean seconds per superstep, and the seconds of each checkpoint; the first and the last one are waited for."""
    out = pathlib.Path(tempfile.mkdtemp(dir=config.parent)) / "run"
    command = ["mpirun", "-n", str(ranks), "--bind-to", "none", PROGRAM, "train", str(config), "--out", str(out),
               "--set", f"checkpoint.every_supersteps={every}", "--set", f"train.max_supersteps={supersteps}", *options]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line.get("type") == "superstep"]
    waits = [step["seconds"]["checkpoint"] for step in steps if step["superstep"] > 1]
    # A superstep's record has what came before it: a checkpoint of superstep k is in those from k + 1 on.
    stalls = [sum(waits[first:first + every]) for first in range(every - 1, len(waits) - every + 1, every)]
    total = [step["seconds"]["total"] for step in steps[len(steps) // 10:]]
    shutil.rmtree(out.parent)
    return statistics.mean(total), stalls


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--supersteps", type=int, default=400)
    arguments = parser.parse_args()
    copy = copy_seconds()
    rates, stalls = {kind: [] for kind in KINDS}, {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "run.toml"
        config.write_text(cnn_run(64, 4))
        for _ in range(arguments.repetitions):
            for kind, options in KINDS.items():
                every = 1_000_000 if kind == "none" else arguments.every
                step, found = run(config, arguments.ranks, every, arguments.supersteps,
                                  () if kind == "none" else options)
                rates[kind].append(step)
                stalls[kind] += found
    rows = []
    for kind in KINDS:
        ratio = statistics.median(a / b for a, b in zip(rates[kind], rates["none"]))
        if stalls[kind]:
            milliseconds = sorted(1e3 * stall for stall in stalls[kind])
            cells = (f"{statistics.median(milliseconds):.1f} | {milliseconds[0]:.1f}-{milliseconds[-1]:.1f} | "
                     f"{statistics.median(milliseconds) / (1e3 * copy):.1f} | {len(milliseconds)}")
        else:
            cells = "- | - | - | 0"
        rows.append(f"| {kind} | {cells} | {ratio:.3f} |")
        print(rows[-1], flush=True)
    machine = bench("--model", "mlp", "--steps", 10)["machine"]
    write_section("measure_checkpoints.py", "What a checkpoint costs", [
        machine_lines(machine), "",
        f"CNN with momentum ({STATE_BYTES / 1e6:.1f} MB of state), {arguments.ranks} ranks, a checkpoint every "
        f"{arguments.every} supersteps, {arguments.repetitions} runs of {arguments.supersteps} supersteps each, in turn. "
        f"One copy of the state, which is in no cache, takes {1e3 * copy:.1f} ms here.", "",
        "| checkpoints | stall, ms: median | least-largest | in copies of the state | counted | superstep against none |",
        "|---|---|---|---|---|---|", *rows, "",
        command_line("measure_checkpoints.py")])


if __name__ == "__main__":
    main()
