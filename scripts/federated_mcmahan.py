#!/usr/bin/env python3
"""McMahan et al. 2017, table 1 and 2: rounds of FedAvg to a target accuracy on MNIST, with their metric.

  federated_mcmahan.py PROGRAM MNIST_DIRECTORY CASE [--seeds 1 2 3] [--rates 0.1 0.215] [--processes 2] [--out DIR]

CASE is one of the rows of CASES below. For every learning rate and seed one run; the learning curve is made monotone
(best test accuracy so far) and the round where it crosses the target is interpolated linearly. Prints a Markdown row
per rate with the rounds of every seed, and the best rate by the mean over seeds. Runs go to DIR (default: a temporary
directory); the curves are there, in metrics.jsonl. Minutes to hours: not a test. Python's standard library only.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

# name: model, target, partition, local epochs, batch, most rounds, the paper's rounds
CASES = {
    "2nn-iid": ("mlp_2nn", 0.97, "iid", 1, 10, 120, 87),
    "2nn-noniid": ("mlp_2nn", 0.97, "shards", 1, 10, 900, 664),
    "cnn-iid": ("mcmahan_cnn", 0.99, "iid", 1, 10, 50, 34),
}


def rounds_to(target, accuracies):
    """accuracies[i] is that after round i + 1; None when the target is never reached."""
    best = previous = 0.0
    for i, accuracy in enumerate(accuracies):
        previous, best = best, max(best, accuracy)
        if best >= target:
            return i + (target - previous) / (best - previous)
    return None


def run(arguments, case, rate, seed, out):
    model, target, partition, epochs, batch, most, _ = CASES[case]
    config = out.parent / f"{out.name}.toml"
    config.write_text(f"""
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
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    launcher = ["mpirun", "--oversubscribe", "-n", str(arguments.processes)] if arguments.processes > 1 else []
    subprocess.run([*launcher, arguments.program, "federated", config, "--out", out], check=True,
                   env=environment, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    accuracies = [line["test_accuracy"] for line in lines if line["type"] == "round" and "test_accuracy" in line]
    return rounds_to(target, accuracies)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("mnist")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.1, 0.215])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="at most so many (default: that of the case)")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.program = os.path.abspath(arguments.program)
    out = arguments.out or pathlib.Path(tempfile.mkdtemp(prefix="mcmahan-"))
    out.mkdir(parents=True, exist_ok=True)
    means = {}
    print("| case | rate | rounds by seed | mean |\n|---|---|---|---|", flush=True)
    for rate in arguments.rates:
        found = [run(arguments, arguments.case, rate, seed, out / f"{arguments.case}-{rate}-{seed}")
                 for seed in arguments.seeds]
        reached = None not in found
        means[rate] = statistics.mean(found) if reached else float("inf")
        texts = ", ".join("never" if rounds is None else f"{rounds:.1f}" for rounds in found)
        print(f"| {arguments.case} | {rate} | {texts} | {means[rate]:.1f} |", flush=True)
    best = min(means, key=means.get)
    print(f"best rate {best}: {means[best]:.1f} rounds; the paper has {CASES[arguments.case][-1]}; runs in {out}")


if __name__ == "__main__":
    main()
