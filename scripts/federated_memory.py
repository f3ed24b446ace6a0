#!/usr/bin/env python3
"""Peak memory of a federated run at 1,000, 100,000 and 1,000,000 clients: nothing may grow with the population.

  federated_memory.py PROGRAM [--clients 1000 100000 1000000] [--set KEY=VALUE ...]

Softmax regression on clients whose samples are made when they are read, 20 rounds of 10 clients, one process of one
lane. Prints a Markdown table: peak resident set and bytes per client beyond the smallest run. Python's standard library
only.
"""

import argparse
import os
import pathlib
import tempfile

CONFIG = """
[data]
format = "synthetic"
num_train = 10
num_test = 200
sample_shape = [784]
[federated]
rounds = 20
clients = {clients}
cohort = 10
partition = "generated"
client_learning_rate = 0.03
evaluate_every_rounds = 20
[checkpoint]
every_supersteps = 0
keep = 1
[[model.layers]]
kind = "dense"
units = 10
"""


def peak_bytes(program, clients, overrides):
    with tempfile.TemporaryDirectory(prefix="federated-memory-") as directory:
        config = pathlib.Path(directory) / "job.toml"
        config.write_text(CONFIG.format(clients=clients))
        command = [program, "federated", str(config), "--out", str(pathlib.Path(directory) / "run")]
        for override in overrides:
            command += ["--set", override]
        child = os.posix_spawn(program, command, os.environ,
                               file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
        _, status, usage = os.wait4(child, 0)
        if status != 0:
            raise SystemExit(f"the run with {clients} clients failed")
        return usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--clients", nargs="+", type=int, default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--set", nargs="*", default=[], dest="overrides")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.program)
    print("| clients | peak resident set | bytes per client beyond the first row |\n|---|---|---|")
    first = None
    for clients in arguments.clients:
        peak = min(peak_bytes(program, clients, arguments.overrides) for _ in range(3))
        first = first or (clients, peak)
        more = (peak - first[1]) / (clients - first[0]) if clients > first[0] else 0.0
        print(f"| {clients:,} | {peak / 2**20:.1f} MiB | {more:.2f} |", flush=True)


if __name__ == "__main__":
    main()
