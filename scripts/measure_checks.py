#!/usr/bin/env python3
"""What the checks against silent errors cost the training: writes a section of docs/benchmarks.md.

    ./scripts/measure_checks.py [--ranks 2] [--repetitions 5] [--supersteps 600] [--no-report]

The CNN with momentum on generated data, with check.recompute_gradients = 0.01 and 0.1, with
check.parameters_every_updates = 1, 10 and 100, and without either, in turn. A figure is the seconds of a superstep against
those without checks in the same repetition. The program is build/release/superstep, or SUPERSTEP=path.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile

from benchmark_report import ENVIRONMENT, PROGRAM, bench, cnn_run, command_line, machine_lines, write_section

GLOBAL_BATCH = 128
NONE = "none"
RECOMPUTE, PARAMETERS = "check.recompute_gradients", "check.parameters_every_updates"
KINDS = {NONE: {RECOMPUTE: 0, PARAMETERS: 0},
         f"`{RECOMPUTE} = 0.01`": {RECOMPUTE: 0.01, PARAMETERS: 0},
         f"`{RECOMPUTE} = 0.1`": {RECOMPUTE: 0.1, PARAMETERS: 0},
         f"`{PARAMETERS} = 100`": {RECOMPUTE: 0, PARAMETERS: 100},
         f"`{PARAMETERS} = 10`": {RECOMPUTE: 0, PARAMETERS: 10},
         f"`{PARAMETERS} = 1`": {RECOMPUTE: 0, PARAMETERS: 1}}


def run(config, ranks, supersteps, settings):
    """Of the supersteps after the first tenth: the seconds of each, and whether gradients were computed again in it."""
    out = pathlib.Path(tempfile.mkdtemp(dir=config.parent)) / "run"
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command = ["mpirun", "-n", str(ranks), "--bind-to", "none", PROGRAM, "train", str(config), "--out", str(out),
               "--set", f"train.max_supersteps={supersteps}", *words]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line["seconds"] for line in lines if line.get("type") == "superstep"]
    shutil.rmtree(out.parent)
    return [(step["total"], step["check"] > 0.0) for step in steps[len(steps) // 10:]]


def row_of(kind, measured):
    """`measured`: kind -> the supersteps of each repetition."""
    means = {name: [statistics.mean(seconds for seconds, _ in steps) for steps in runs]
             for name, runs in measured.items()}
    ratios = [mine / base for mine, base in zip(means[kind], means[NONE])]
    steps = [step for run_steps in measured[kind] for step in run_steps]
    checked = [seconds for seconds, is_checked in steps if is_checked]
    others = [seconds for seconds, is_checked in steps if not is_checked]
    of_one = f"{statistics.median(checked) / statistics.median(others):.2f}" if checked else "-"
    return (f"| {kind} | {GLOBAL_BATCH / statistics.median(means[kind]):,.0f} | {statistics.median(ratios):.3f} | "
            f"{min(ratios):.3f}-{max(ratios):.3f} | {100.0 * len(checked) / len(steps):.1f} % | {of_one} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--supersteps", type=int, default=600)
    parser.add_argument("--no-report", action="store_true", help="print the rows only")
    arguments = parser.parse_args()
    measured = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as directory:
        config = pathlib.Path(directory) / "run.toml"
        config.write_text(cnn_run(GLOBAL_BATCH, 8))
        for _ in range(arguments.repetitions):
            for kind, settings in KINDS.items():
                measured[kind].append(run(config, arguments.ranks, arguments.supersteps, settings))
    rows = [row_of(kind, measured) for kind in KINDS]
    print("\n".join(rows))
    if arguments.no_report:
        return
    machine = bench("--model", "mlp", "--steps", 10)["machine"]
    write_section("measure_checks.py", "What the checks against silent errors cost", [
        machine_lines(machine), "",
        f"CNN with momentum, global batch {GLOBAL_BATCH} in 8 slots, {arguments.ranks} ranks, {arguments.repetitions} runs "
        f"of {arguments.supersteps} supersteps each, in turn. Ratios are those of the mean seconds of a superstep to the "
        "run without checks of the same repetition; the last columns say in how many supersteps gradients were computed "
        "again, and how long such a superstep takes against the others.", "",
        "| checks | samples/s | superstep against none: median | least-largest | recomputed | recomputed against others |",
        "|---|---|---|---|---|---|", *rows, "",
        command_line("measure_checks.py")])


if __name__ == "__main__":
    main()
