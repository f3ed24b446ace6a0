#!/usr/bin/env python3
"""Runs both sides of a federated round in turn and writes the ratios; see compare_pytorch_federated.sh."""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from benchmark_report import ENVIRONMENT, PROGRAM, command_line, spread, write_section
from benchmark_section import describe_machine
from compare_pytorch import PEER_ENVIRONMENT

PEER = pathlib.Path(__file__).with_name("pytorch_federated.py")
PRESETS = {"mlp": "mlp_2nn", "cnn": "mcmahan_cnn"}
NAMES = {"mlp": "2NN", "cnn": "CNN"}
# The peer's round (pytorch_federated.py).
CONFIG = """
[model]
preset = "{preset}"
[data]
directory = "{mnist}"
normalization = "unit"
[train]
log_every_supersteps = 1
[federated]
rounds = {rounds}
clients = 100
cohort = 10
local_batch = 10
client_learning_rate = 0.05
evaluate_every_rounds = {rounds}
[checkpoint]
every_supersteps = 0
keep = 1
"""


def peer(model, mnist, seconds, layout, threads):
    """(seconds per round, version of torch)."""
    environment = {key: value for key, value in PEER_ENVIRONMENT.items() if threads or key != "OMP_NUM_THREADS"}
    run = subprocess.run([sys.executable, PEER, model, mnist, str(seconds), layout, str(threads)], env=environment,
                         capture_output=True, text=True, check=False)
    found = re.search(r"seconds_per_round (\S+) .* torch (\S+)", run.stdout)
    if not found:
        raise SystemExit(f"pytorch_federated.py {model}: {run.stderr}")
    return float(found.group(1)), found.group(2)


def ours(model, mnist, rounds):
    """Seconds per round of two ranks: the mean over all rounds of a run but its first, which records the steps."""
    with tempfile.TemporaryDirectory(prefix="federated-pytorch-") as directory:
        config = pathlib.Path(directory) / "job.toml"
        config.write_text(CONFIG.format(preset=PRESETS[model], mnist=pathlib.Path(mnist).resolve(), rounds=rounds + 1))
        out = pathlib.Path(directory) / "run"
        subprocess.run(["mpirun", "-n", "2", "--bind-to", "core", PROGRAM, "federated", config, "--out", out],
                       check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    seconds = [line["seconds"]["total"] for line in lines if line["type"] == "round"]
    return statistics.mean(seconds[1:])


def best_peer(model, mnist, seconds):
    """The fastest (layout, threads) of a short try; 0 threads: PyTorch's own choice."""
    layouts = ["plain"] if model == "mlp" else ["plain", "channels_last"]
    return min(((layout, threads) for layout in layouts for threads in (0, 1)),
               key=lambda one: peer(model, mnist, seconds, *one)[0])


def compare(model, arguments):
    layout, threads = best_peer(model, arguments.mnist, min(arguments.seconds, 2.0))
    rounds = max(3, int(arguments.seconds / ours(model, arguments.mnist, 3)))
    theirs, mine = [], []
    for _ in range(arguments.repetitions):
        seconds, version = peer(model, arguments.mnist, arguments.seconds, layout, threads)
        theirs.append(seconds)
        mine.append(ours(model, arguments.mnist, rounds))
    ratios = [a / b for a, b in zip(theirs, mine)]
    row = (f"| {NAMES[model]} | {layout.replace('_', ' ')}, {threads or 'all'} thread{'' if threads == 1 else 's'} | "
           f"{spread([1e3 * one for one in theirs])} | {spread([1e3 * one for one in mine])} | "
           f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |")
    print(row, flush=True)
    return row, version


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mnist", help="directory with the IDX files of MNIST")
    parser.add_argument("--models", default="mlp,cnn")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    rows = [compare(model, arguments) for model in arguments.models.split(",")]
    write_section("compare_pytorch_federated.sh", "Federated rounds against PyTorch", [
        f"Machine: {describe_machine()}.", "",
        f"McMahan's round on MNIST: 10 of 100 clients with 600 samples, one epoch in batches of 10. Peer: a plain loop "
        f"in one process of PyTorch {rows[0][1]}, allocator kept from returning memory, the fastest of both memory "
        "formats and of one thread or all. Superstep: 2 ranks. Milliseconds per round, median (least-largest) of "
        f"{arguments.repetitions} runs of about {arguments.seconds:g} s, both sides in turn.", "",
        "| model | peer | PyTorch | Superstep | ratio |", "|---|---|---|---|---|", *(row for row, _ in rows), "",
        command_line("compare_pytorch_federated.sh")])


if __name__ == "__main__":
    main()
