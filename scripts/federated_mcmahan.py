#!/usr/bin/env python3
"""McMahan et al. 2017, table 1 and 2: rounds of FedAvg to a target accuracy on MNIST, with their metric.

  federated_mcmahan.py PROGRAM MNIST_DIRECTORY CASE... [--seeds 1 2 3] [--rates 0.1 0.215] [--processes 2]
                       [--out DIR] [--curves docs/images/fedavg_mnist.svg]

CASE is one of the rows of CASES below. For every learning rate and seed one run, which is stopped when it reaches the
target; the learning curve is made monotone (best test accuracy so far) and the round where it crosses the target is
interpolated linearly. Prints a Markdown row per rate with the rounds of every seed, and the best rate by the mean over
seeds. Runs go to DIR (default: a temporary directory), and what is there is not run again; --curves draws the curves of
each case's best rate. Minutes to hours: not a test. Python's standard library only.
"""

import argparse
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

from svg_chart import COLORS, Chart, stacked

# name: model, target, partition, local epochs, batch, most rounds, the paper's rounds
CASES = {
    "2nn-iid": ("mlp_2nn", 0.97, "iid", 1, 10, 120, 87),
    "2nn-noniid": ("mlp_2nn", 0.97, "shards", 1, 10, 900, 664),
    "cnn-iid": ("mcmahan_cnn", 0.99, "iid", 1, 10, 50, 34),
}


MARK = "#888888"
STOPPED = 75  # by a signal, with a checkpoint
LOOK_SECONDS = 0.5


def best_so_far(accuracies):
    best, curve = 0.0, []
    for accuracy in accuracies:
        best = max(best, accuracy)
        curve.append(best)
    return curve


def rounds_to(target, accuracies):
    """accuracies[i] is that after round i + 1; None when the target is never reached."""
    previous = 0.0
    for i, best in enumerate(best_so_far(accuracies)):
        if best >= target:
            return i + (target - previous) / (best - previous)
        previous = best
    return None


def accuracies_in(out):
    """After each round, as far as the run has come."""
    metrics = out / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    return [entry["test_accuracy"] for entry in entries if entry["type"] == "round" and "test_accuracy" in entry]


def write_config(path, arguments, case, rate, seed):
    model, _, partition, epochs, batch, most, _ = CASES[case]
    path.write_text(f"""
[model]
preset = "{model}"
[data]
directory = "{pathlib.Path(arguments.mnist).resolve()}"
normalization = "unit"
[train]
seed = {seed}
[federated]
rounds = {arguments.rounds or most}
partition = "{partition}"
partition_seed = {seed}
local_epochs = {epochs}
local_batch = {batch}
client_learning_rate = {rate}
[checkpoint]
every_supersteps = 0
keep = 1
""")


def run(arguments, case, rate, seed, out):
    """The accuracies after each round, until the target."""
    target = CASES[case][1]
    ended = out.parent / f"{out.name}.ended"
    if ended.exists():
        return accuracies_in(out)
    config = out.parent / f"{out.name}.toml"
    write_config(config, arguments, case, rate, seed)
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    launcher = ["mpirun", "--oversubscribe", "-n", str(arguments.processes)] if arguments.processes > 1 else []
    with subprocess.Popen([*launcher, arguments.program, "federated", config, "--out", out], env=environment,
                          stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(LOOK_SECONDS)
            if max(accuracies_in(out), default=0.0) >= target:
                process.send_signal(signal.SIGUSR1 if launcher else signal.SIGTERM)
                process.wait()
    if process.returncode not in (0, STOPPED):
        raise SystemExit(f"{config}: exit code {process.returncode}")
    ended.touch()
    return accuracies_in(out)


def compare_rates(arguments, case, out):
    """Prints a row per rate; the curves of the best one, by seed."""
    _, target, _, _, _, _, paper = CASES[case]
    curves, means = {}, {}
    for rate in arguments.rates:
        curves[rate] = [run(arguments, case, rate, seed, out / f"{case}-{rate}-{seed}") for seed in arguments.seeds]
        found = [rounds_to(target, accuracies) for accuracies in curves[rate]]
        means[rate] = statistics.mean(found) if None not in found else math.inf
        texts = ", ".join("never" if rounds is None else f"{rounds:.1f}" for rounds in found)
        print(f"| {case} | {target} | {rate} | {texts} | {means[rate]:.1f} | {paper} | {means[rate] / paper:.2f} |",
              flush=True)
    best = min(means, key=means.get)
    return best, curves[best]


def chart_of(case, rate, curves):
    _, target, _, _, _, _, paper = CASES[case]
    most = max(paper, *(len(curve) for _, curve in curves))
    low, high = target - 0.07, min(1.0, target + 0.01)
    chart = Chart(f"{case}, rate {rate}: best test accuracy so far", (0, most), (low, high), x_label="rounds")
    for i, (seed, curve) in enumerate(curves):
        points = [(round_, accuracy) for round_, accuracy in enumerate(best_so_far(curve), 1)]
        chart.curve(points, COLORS[i % len(COLORS)], f"seed {seed}")
    chart.curve([(0, target), (most, target)], MARK, f"target {target}", dashes="6 4")
    chart.curve([(paper, low), (paper, high)], MARK, f"paper {paper} rounds", dashes="2 3")
    return chart


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("mnist")
    parser.add_argument("cases", nargs="+", choices=CASES, metavar="CASE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.215])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="at most so many (default: that of the case)")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--curves", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.program = os.path.abspath(arguments.program)
    out = arguments.out or pathlib.Path(tempfile.mkdtemp(prefix="mcmahan-"))
    out.mkdir(parents=True, exist_ok=True)
    print("| case | target | rate | rounds by seed | mean | paper | of the paper's |\n|---|---|---|---|---|---|---|",
          flush=True)
    charts = []
    for case in arguments.cases:
        rate, curves = compare_rates(arguments, case, out)
        charts.append(chart_of(case, rate, list(zip(arguments.seeds, curves))))
    print(f"runs in {out}")
    if arguments.curves:
        arguments.curves.write_text(stacked(charts), encoding="utf-8")


if __name__ == "__main__":
    main()
