#!/usr/bin/env python3
"""Times a federated job of FLUTE's published shape: what the program costs per client.

  federated_speed.py PROGRAM MNIST_DIRECTORY [--processes 1 2] [--repetitions 3]

Softmax regression on MNIST, 1,000 clients with 2 labels each, 5 samples of both and log-normal more (as FedProx), batch
10, rate 0.03, 1 local epoch, 10 clients per round, 100 rounds, test every 20. Published for this job on CPU: Flower
30:14, FLUTE 3:20 (README of FLUTE). Prints a Markdown table: wall time of the whole program, start-up and reading
included, and client-rounds per second and core of the rounds alone. The least of the repetitions. Python's standard
library only.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

CONFIG = """
[model]
preset = "softmax_regression"
[data]
directory = "{mnist}"
normalization = "unit"
[train]
seed = 1
log_every_supersteps = 20
[federated]
rounds = {rounds}
clients = 1000
cohort = 10
partition = "pathological"
labels_per_client = 2
size_skew = 2.0
min_client_samples = 10
local_batch = 10
client_learning_rate = 0.03
evaluate_every_rounds = {every}
[checkpoint]
every_supersteps = 0
keep = 1
"""


def measure(arguments, processes, rounds, every):
    with tempfile.TemporaryDirectory(prefix="federated-speed-") as directory:
        out = pathlib.Path(directory) / "run"
        config = pathlib.Path(directory) / "job.toml"
        config.write_text(CONFIG.format(mnist=pathlib.Path(arguments.mnist).resolve(), rounds=rounds, every=every))
        environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        launcher = ["mpirun", "-n", str(processes)] if processes > 1 else []
        start = time.perf_counter()
        subprocess.run([*launcher, arguments.program, "federated", config, "--out", out], check=True,
                       env=environment, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - start
        summary = json.loads((out / "summary.json").read_text())
    seconds = summary["time_seconds"]["supersteps_by_rank"]["total"]["max"]
    return wall, summary["federated"]["client_rounds"] / seconds / processes, summary["test"]["accuracy"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("mnist")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    arguments.program = os.path.abspath(arguments.program)
    print("| job | processes | wall s | client-rounds/s/core | test accuracy |\n|---|---|---|---|---|")
    for processes in arguments.processes:
        for name, rounds, every in (("100 rounds", 100, 20), ("2,000 rounds", 2000, 2000)):
            results = [measure(arguments, processes, rounds, every) for _ in range(arguments.repetitions)]
            wall, rate, accuracy = min(r[0] for r in results), max(r[1] for r in results), results[0][2]
            print(f"| {name} | {processes} | {wall:.2f} | {rate:.0f} | {accuracy:.4f} |", flush=True)


if __name__ == "__main__":
    main()
