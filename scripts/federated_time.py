#!/usr/bin/env python3
"""Synchronous against asynchronous federated training in virtual time: when does each reach an accuracy?

  federated_time.py PROGRAM [--target 0.85] [--seeds 1 2 3] [--modes rounds fedbuff] [--processes 2] [--out DIR]

Runs examples/fedbuff_fashion_mnist_2nn.toml in each of the modes of MODES below: the same clients, data and simulated
devices; 10 reports per update where there are rounds or a buffer, unless the mode says otherwise. The accuracy curve is
made monotone (best so far) and the virtual second at which it crosses the target is interpolated linearly. Prints a
Markdown table; the curves are in metrics.jsonl of the runs in DIR (default: a temporary directory). About a minute a
run. Python's standard library only.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[1]
ROUNDS = ["federated.asynchrony.kind=none", "federated.asynchrony.concurrency=10"]
# name: --set of each
MODES = {
    "rounds": [*ROUNDS, "federated.rounds=60"],
    "rounds of 20": [*ROUNDS, "federated.rounds=60", "federated.cohort=20"],
    "rounds, over-selection 1.3": [*ROUNDS, "federated.rounds=80", "federated.over_selection=1.3"],
    "rounds, deadline 15 s": [*ROUNDS, "federated.rounds=100", "federated.deadline_seconds=15"],
    "fedbuff": ["federated.rounds=200"],
    "fedbuff, concurrency 10": ["federated.rounds=200", "federated.asynchrony.concurrency=10",
                                "federated.asynchrony.buffer=5"],
    "fedasync": ["federated.asynchrony.kind=fedasync", "federated.asynchrony.buffer=10", "federated.weighting=samples",
                 "federated.asynchrony.mixing=0.3", "federated.rounds=2000", "federated.evaluate_every_rounds=10"],
}


def time_to(target, curve):
    """curve: (virtual seconds, updates, client rounds, accuracy); the point where it is reached, or None."""
    best = 0.0
    before = (0.0, 0.0, 0.0)
    for *point, accuracy in curve:
        if accuracy >= target:
            part = (target - best) / (accuracy - best)
            return [a + part * (b - a) for a, b in zip(before, point)]
        if accuracy > best:
            best = accuracy
        before = point
    return None


def run(arguments, mode, seed, out):
    flags = [*MODES[mode], f"train.seed={seed}", f"federated.partition_seed={seed}", f"federated.device.seed={seed}"]
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    launcher = ["mpirun", "--oversubscribe", "-n", str(arguments.processes)] if arguments.processes > 1 else []
    sets = [word for flag in flags for word in ("--set", flag)]
    if arguments.data:
        sets += ["--set", f"data.directory={arguments.data}"]
    subprocess.run([*launcher, arguments.program, "federated", SOURCE / "examples/fedbuff_fashion_mnist_2nn.toml",
                    "--out", out, *sets], check=True, env=environment, stdout=subprocess.DEVNULL)
    curve = []
    used = lost = 0
    staleness = 0.0
    for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()):
        if line["type"] == "round":
            used += line["cohort"]
            lost += line["late"] + line["dropped"] + line["gone"] + line["stale"]
            staleness += line["staleness_mean"] * line["cohort"]
            if "test_accuracy" in line:
                curve.append((line["virtual_seconds"], line["round"], used, line["test_accuracy"]))
    return time_to(arguments.target, curve), staleness / used, lost / (used + lost), max(point[-1] for point in curve)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--target", type=float, default=0.85)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--data", help="another directory of IDX files than the example's")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.program = os.path.abspath(arguments.program)
    out = arguments.out or pathlib.Path(tempfile.mkdtemp(prefix="federated-time-"))
    out.mkdir(parents=True, exist_ok=True)
    print(f"| mode | virtual s to {arguments.target}, by seed | mean | updates | client rounds used | not used | "
          "staleness | best accuracy |\n|---|---|---|---|---|---|---|---|", flush=True)
    for mode in arguments.modes:
        results = [run(arguments, mode, seed, out / f"{mode.replace(', ', '-').replace(' ', '-')}-{seed}")
                   for seed in arguments.seeds]
        points, staleness, lost, best = zip(*results)
        texts = ", ".join("never" if point is None else f"{point[0]:.0f}" for point in points)
        means = ["never"] * 3
        if None not in points:
            means = [f"{statistics.mean(values):.0f}" for values in zip(*points)]
        print(f"| {mode} | {texts} | {' | '.join(means)} | {100 * statistics.mean(lost):.0f} % | "
              f"{statistics.mean(staleness):.2f} | {statistics.mean(best):.4f} |", flush=True)
    print(f"runs in {out}")


if __name__ == "__main__":
    main()
