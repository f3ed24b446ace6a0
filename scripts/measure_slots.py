#!/usr/bin/env python3
"""What a fixed number of slots costs: writes a table to docs/benchmarks.md.

    ./scripts/measure_slots.py [--models cnn,mlp] [--repetitions 3] [--seconds 2]

Global batch 128, M = 1, 2, 4, 8, 16 slots on one rank and on two; the rows of one repetition are run in turn.
The program is build/release/superstep, or SUPERSTEP=path.
"""

import argparse
import statistics

from benchmark_report import bench, command_line, machine_lines, steps_for, write_section

SLOTS = (1, 2, 4, 8, 16)
GLOBAL_BATCH = 128


def measure(model, ranks, repetitions, seconds):
    slots = [m for m in SLOTS if m >= ranks]
    arguments = ["--model", model, "--batch", GLOBAL_BATCH // ranks]
    steps = steps_for(seconds, *arguments, processes=ranks)
    rates = {m: [] for m in slots}
    for _ in range(repetitions):
        for m in slots:
            found = bench(*arguments, "--steps", steps, "--microbatches", m, processes=ranks)
            rates[m].append(found["samples_per_second"])
    cells = []
    for m in SLOTS:
        if m not in rates:
            cells.append("-")
            continue
        ratios = [rate / base for rate, base in zip(rates[m], rates[slots[0]])]
        cells.append(f"{statistics.median(rates[m]):,.0f} ({statistics.median(ratios):.2f})")
    row = f"| {model} | {ranks} | {' | '.join(cells)} |"
    print(row, flush=True)
    return row, found["machine"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default="mlp,wide-mlp,cnn,resnet20")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models.split(","):
        for ranks in map(int, arguments.ranks.split(",")):
            row, machine = measure(model, ranks, arguments.repetitions, arguments.seconds)
            rows.append(row)
    write_section("measure_slots.py", "The price of invariance", [
        machine_lines(machine), "",
        f"Samples per second at global batch {GLOBAL_BATCH} by number of slots M; in brackets the ratio to the fewest "
        f"slots of the row. Medians of {arguments.repetitions}, the numbers of slots in turn.", "",
        "| model | ranks | " + " | ".join(f"M = {m}" for m in SLOTS) + " |", "|---" * (2 + len(SLOTS)) + "|", *rows, "",
        command_line("measure_slots.py")])


if __name__ == "__main__":
    main()
