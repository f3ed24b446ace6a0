#!/usr/bin/env python3
"""What bf16 products gain and cost: writes two tables to docs/benchmarks.md.

    ./scripts/measure_precision.py [--models cnn,wide-mlp] [--repetitions 5] [--seconds 3] [--epochs 4]

Speed: `superstep bench` in float32 and in bf16, in turn. Accuracy: examples trained for the same epochs with
train.precision on either side; --epochs 0 leaves it out. Fails, with nothing written, when an accuracy differs by
more than LARGEST_DIFFERENCE. The program is build/release/superstep, or SUPERSTEP=path.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from benchmark_report import ENVIRONMENT, PROGRAM, ROOT, bench, command_line, machine_lines, spread, steps_for, write_section

PRECISIONS = ("float32", "bf16")
EXAMPLES = {"2NN": "fashion_mnist_mlp.toml", "CNN": "fashion_mnist_cnn.toml"}
LARGEST_DIFFERENCE = 0.003
FINAL = re.compile(r"^final: test_accuracy=(\S+) test_loss=(\S+)", re.M)


def speed_row(model, ranks, batch, repetitions, seconds):
    arguments = ["--model", model, "--batch", batch]
    steps = steps_for(seconds, *arguments, processes=ranks)
    rates = {precision: [] for precision in PRECISIONS}
    for _ in range(repetitions):
        for precision in PRECISIONS:
            found = bench(*arguments, "--steps", steps, "--precision", precision, processes=ranks)
            rates[precision].append(found["samples_per_second"])
    ratios = [fast / base for base, fast in zip(*(rates[precision] for precision in PRECISIONS))]
    cells = " | ".join(spread(rates[precision]) for precision in PRECISIONS)
    row = (f"| {model} | {ranks} | {cells} | {statistics.median(ratios):.2f} "
           f"({min(ratios):.2f}-{max(ratios):.2f}) |")
    print(row, flush=True)
    return row, found["machine"]


def accuracy_of(example, precision, epochs):
    with tempfile.TemporaryDirectory() as directory:
        command = [PROGRAM, "train", str(ROOT / "examples" / example), "--out", str(pathlib.Path(directory) / "run"),
                   "--set", f"train.epochs={epochs}", "--set", f"train.precision={precision}"]
        run = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    final = FINAL.search(run.stdout)
    if run.returncode != 0 or final is None:
        sys.exit(f"{' '.join(command)}: exit code {run.returncode}\n{run.stdout}{run.stderr}")
    return float(final.group(1)), float(final.group(2))


def problem(name, found):
    """What is wrong with the accuracies of one example, in a sentence; empty: nothing."""
    base, other = (found[precision][0] for precision in PRECISIONS)
    if abs(base - other) <= LARGEST_DIFFERENCE:
        return ""
    return f"{name}: test accuracy {other:.4f} in bf16, expected within {LARGEST_DIFFERENCE} of float32's {base:.4f}"


def accuracy_rows(epochs):
    rows = []
    for name, example in EXAMPLES.items() if epochs > 0 else ():
        found = {precision: accuracy_of(example, precision, epochs) for precision in PRECISIONS}
        row = f"| {name} ({example}) | " + " | ".join(f"{found[p][0]:.4f} ({found[p][1]:.4f})" for p in PRECISIONS) + " |"
        print(row, flush=True)
        if problem(name, found):
            sys.exit(problem(name, found))
        rows.append(row)
    if not rows:
        return []
    return ["", f"Test accuracy (and loss) on Fashion-MNIST after {epochs} epochs, one rank, the same seed:", "",
            "| model | float32 | bf16 |", "|---|---|---|", *rows]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default="mlp,wide-mlp,cnn,resnet20")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models.split(","):
        for ranks in map(int, arguments.ranks.split(",")):
            row, machine = speed_row(model, ranks, arguments.batch, arguments.repetitions, arguments.seconds)
            rows.append(row)
    write_section("measure_precision.py", "Products in bf16", [
        machine_lines(machine), "",
        f"Samples per second with {arguments.batch} samples per rank and step: medians (least-largest) of "
        f"{arguments.repetitions}, both sides in turn; the ratio is that of neighbouring runs. "
        "[Decision 11](decisions/0011-products-in-bf16.md) says what is rounded.", "",
        "| model | ranks | float32 | bf16 | bf16 / float32 |", "|---|---|---|---|---|", *rows,
        *accuracy_rows(arguments.epochs), "",
        command_line("measure_precision.py")])


if __name__ == "__main__":
    main()
