#!/usr/bin/env python3
"""Memory of federated runs: nothing may grow with the population, and data are there once per machine.

  federated_memory.py PROGRAM [--clients 1000 100000 1000000] [--set KEY=VALUE ...]
  federated_memory.py PROGRAM --data MNIST_DIRECTORY [--processes 1 2 4] [--before OTHER_PROGRAM]

First form: softmax regression on clients whose samples are made when they are read, 20 rounds of 10 clients, one process
of one lane, for every way to draw cohorts and with every client judged. Prints a Markdown table: peak resident set, and
bytes per client beyond the smallest run. Second form: the proportional set size (pages that processes share are divided
among them) of all processes together while they train on IDX files, with the hash of the model that comes out. Python's
standard library only.
"""

import argparse
import os
import pathlib
import re
import subprocess
import tempfile
import time

GENERATED = """
[data]
format = "synthetic"
num_train = 10
num_test = 200
sample_shape = [16]
[federated]
rounds = 20
clients = {clients}
cohort = 10
partition = "generated"
generated_samples = 2
client_learning_rate = 0.03
evaluate_every_rounds = 20
[checkpoint]
every_supersteps = 0
keep = 1
[[model.layers]]
kind = "dense"
units = 10
"""
VARIANTS = {"fixed cohorts": [], "Poisson cohorts": ["federated.sampling=poisson"],
            "weighted cohorts": ["federated.sampling=weighted"],
            "every client judged": ["federated.evaluate_clients_every_rounds=20"],
            "every client judged, strict": ["federated.evaluate_clients_every_rounds=20",
                                            "federated.data_mode=strict"]}
TRAINING = """
[model]
preset = "softmax_regression"
[data]
directory = "{data}"
normalization = "unit"
[federated]
rounds = {rounds}
clients = 100
client_learning_rate = 0.03
evaluate_every_rounds = {rounds}
[checkpoint]
every_supersteps = 0
keep = 1
"""
MPI_ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}


def peak_bytes(program, clients, overrides):
    with tempfile.TemporaryDirectory(prefix="federated-memory-") as directory:
        config = pathlib.Path(directory) / "job.toml"
        config.write_text(GENERATED.format(clients=clients))
        command = [program, "federated", str(config), "--out", str(pathlib.Path(directory) / "run")]
        for override in overrides:
            command += ["--set", override]
        child = os.posix_spawn(program, command, os.environ,
                               file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
        _, status, usage = os.wait4(child, 0)
        if status != 0:
            raise SystemExit(f"the run with {clients} clients failed")
        return usage.ru_maxrss * 1024


def measure_population(arguments):
    print("| run | clients | peak resident set | bytes per client beyond the first row |\n|---|---|---|---|")
    for name, overrides in VARIANTS.items():
        first = None
        for clients in arguments.clients:
            peak = min(peak_bytes(arguments.program, clients, overrides + arguments.overrides) for _ in range(3))
            first = first or (clients, peak)
            more = (peak - first[1]) / (clients - first[0]) if clients > first[0] else 0.0
            print(f"| {name} | {clients:,} | {peak / 2**20:.1f} MiB | {more:.2f} |", flush=True)


def set_size(process, field):
    """Bytes of a field of smaps_rollup; 0 when the process has gone."""
    try:
        text = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return int(re.search(rf"^{field}: +(\d+) kB$", text, re.M).group(1)) * 1024


def ranks_of(launcher, program):
    listing = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(launcher)], capture_output=True, text=True,
                             check=False)
    return [int(line.split()[0]) for line in listing.stdout.splitlines() if program in line]


def train(program, processes, arguments):
    """(sum of proportional set sizes, sum of resident sets, hash); of the sizes the median over time."""
    with tempfile.TemporaryDirectory(prefix="federated-memory-") as directory:
        config = pathlib.Path(directory) / "job.toml"
        config.write_text(TRAINING.format(data=pathlib.Path(arguments.data).resolve(), rounds=arguments.rounds))
        run = subprocess.Popen(["mpirun", "-n", str(processes), program, "federated", config, "--out",
                                pathlib.Path(directory) / "run"], env=MPI_ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        sizes = []
        while run.poll() is None:
            ranks = ranks_of(run.pid, program)
            sizes.append((sum(set_size(rank, "Pss") for rank in ranks), sum(set_size(rank, "Rss") for rank in ranks)))
            time.sleep(0.05)
        found = re.search(r"parameters_hash=(\S+)", run.stdout.read())
        if run.returncode != 0 or not found:
            raise SystemExit("the run failed")
        return (*sorted(sizes)[len(sizes) // 2], found.group(1))


def measure_data(arguments):
    print("| program | processes | proportional set sizes, MiB | resident sets, MiB | parameters |\n|---|---|---|---|---|")
    programs = {"before": arguments.before, "now": arguments.program} if arguments.before else {"now": arguments.program}
    for processes in arguments.processes:
        for name, program in programs.items():
            proportional, resident, parameters = train(os.path.abspath(program), processes, arguments)
            print(f"| {name} | {processes} | {proportional / 2**20:.0f} | {resident / 2**20:.0f} | {parameters} |",
                  flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--clients", nargs="+", type=int, default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--set", nargs="*", default=[], dest="overrides")
    parser.add_argument("--data")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--before", help="another program to compare with")
    arguments = parser.parse_args()
    arguments.program = os.path.abspath(arguments.program)
    if arguments.data:
        measure_data(arguments)
    else:
        measure_population(arguments)


if __name__ == "__main__":
    main()
