#!/usr/bin/env python3
"""Runs both sides in turn, several times, and writes the ratios to docs/benchmarks.md; see compare_pytorch.sh."""

import argparse
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys

from benchmark_report import ENVIRONMENT, PROGRAM, bench, command_line, machine_lines, spread, steps_for, write_section

PEER = pathlib.Path(__file__).with_name("pytorch_step.py")
BATCH = 64
LOCAL_BATCH = 10  # of a federated client
# The peer at its best: the allocator keeps memory, one thread a process, no choice of kernels forced.
PEER_ENVIRONMENT = {**{key: value for key, value in os.environ.items()
                       if key not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")},
                    "MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
                    "MALLOC_TOP_PAD_": str(64 << 20), "OMP_NUM_THREADS": "1"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def peer(model, processes, seconds, layout, batch=BATCH):
    """(samples per second, version of torch)."""
    group = {} if processes == 1 else {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
                                       "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo"}
    runs = [subprocess.Popen([sys.executable, PEER, model, str(batch), str(seconds), layout],
                             env={**PEER_ENVIRONMENT, **group, "RANK": str(rank)},
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for rank in range(processes)]
    outputs = [run.communicate(timeout=600) for run in runs]
    found = re.search(r"samples_per_second (\S+) torch (\S+)", outputs[0][0])
    if not found:
        raise SystemExit(f"pytorch_step.py {model}: {outputs[0][1]}")
    return float(found.group(1)), found.group(2)


def best_layout(model, processes, seconds, batch):
    layouts = ["plain"] if "mlp" in model else ["plain", "channels_last"]
    return max(layouts, key=lambda one: peer(model, processes, min(seconds, 1.0), one, batch)[0])


def compare(model, processes, repetitions, seconds, batch):
    layout = best_layout(model, processes, seconds, batch)
    arguments = ["--model", model, "--batch", batch]
    steps = steps_for(seconds, *arguments, processes=processes)
    theirs, ours = [], []
    for _ in range(repetitions):
        rate, version = peer(model, processes, seconds, layout, batch)
        theirs.append(rate)
        ours.append(bench(*arguments, "--steps", steps, processes=processes))
    rates = [one["samples_per_second"] for one in ours]
    share = statistics.median(one["share_of_peak"] for one in ours)
    ratios = [a / b for a, b in zip(rates, theirs)]
    peer_name = "1 process" if processes == 1 else f"DDP + gloo, {processes} processes"
    row = (f"| {model} | {batch} | {peer_name}, {layout.replace('_', ' ')} | {spread(theirs)} | {spread(rates)} | "
           f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) | {share:.2f} |")
    print(row, flush=True)
    return row, ours[0]["machine"], version


def peak_mebibytes(command, environment):
    """Maximum resident set of a process, as the kernel counted it."""
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {child.returncode}")
    return usage.ru_maxrss / 1024


def compare_memory(model):
    """Of a process that trains: the peer's pages are returned as by default here, or its allocator would hide them."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    theirs = [peak_mebibytes([sys.executable, PEER, model, str(BATCH), "2", layout], environment)
              for layout in ("plain", "channels_last")]
    imported = peak_mebibytes([sys.executable, "-c", "import torch"], environment)
    ours = peak_mebibytes([PROGRAM, "bench", "--model", model, "--batch", str(BATCH), "--steps", "20"], ENVIRONMENT)
    row = f"| {model} | {min(theirs):.0f} ({imported:.0f}) | {ours:.0f} | {ours / min(theirs):.2f} |"
    print(row, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default="mlp,wide-mlp,cnn,resnet20")
    parser.add_argument("--processes", default="1,2")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models.split(","):
        for processes in map(int, arguments.processes.split(",")):
            row, machine, version = compare(model, processes, arguments.repetitions, arguments.seconds, BATCH)
            rows.append(row)
    for model in arguments.models.split(","):
        rows.append(compare(model, 1, arguments.repetitions, arguments.seconds, LOCAL_BATCH)[0])
    memory = [compare_memory(model) for model in arguments.models.split(",")]
    write_section("compare_pytorch.sh", "Training steps against PyTorch", [
        machine_lines(machine),
        f"Peer: PyTorch {version}, one thread a process, SGD with momentum, batches ready in memory, allocator kept "
        "from returning memory, the faster of both memory formats.", "",
        f"Batch per rank, one microbatch per rank; samples per second, median (least-largest) of "
        f"{arguments.repetitions} runs of about {arguments.seconds:g} s, both sides in turn. The share is of the "
        "multiply-add peak of as many cores as ranks, measured in the same run.", "",
        "| model | batch | peer | PyTorch | Superstep | ratio | share of peak |", "|---|---|---|---|---|---|---|", *rows, "",
        f"Peak memory of one process that trains with batch {BATCH}: maximum resident set in MiB, PyTorch in its smaller "
        "memory format, in brackets what importing it takes.", "",
        "| model | PyTorch | Superstep | ratio |", "|---|---|---|---|", *memory, "",
        command_line("compare_pytorch.sh")])


if __name__ == "__main__":
    main()
