#!/usr/bin/env python3
"""Runs the rows of the fault matrix and writes their table; scripts/fault_matrix.sh says how."""

import argparse
import fcntl
import json
import os
import pathlib
import platform
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from job import Fault  # noqa: E402
from rows import ROWS  # noqa: E402

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BEGIN = "<!-- fault matrix: begin. Written by scripts/fault_matrix.sh --report from what was run. -->"
END = "<!-- fault matrix: end -->"


class Results:
    """What was run so far, by row; kept after every trial."""

    def __init__(self, path, program=""):
        self.path = path
        self.program = program  # its version, noted with the rows that it ran
        self.rows = self.read()

    def read(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def of(self, name):
        return self.rows.setdefault(name, {"done": 0, "kept": 0, "failures": [], "figures": {}})

    def add(self, name, seed, figures, failure):
        row = self.of(name)
        row["done"] += 1
        row["date"] = time.strftime("%Y-%m-%d", time.gmtime())
        row["programs"] = sorted({*row.get("programs", []), self.program})
        if failure is None:
            row["kept"] += 1
            for figure, value in figures.items():
                row["figures"].setdefault(figure, []).append(value)
        else:
            row["failures"].append({"seed": seed, "what": failure[-4000:]})
        self.store(name)

    def store(self, name):
        """One row. Others may be at work on other rows at the same time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            rows = {**self.read(), name: self.rows[name]}
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
            temporary.replace(self.path)
        finally:
            os.close(directory)


def run_row(row, results, most, budget):
    begin = time.monotonic()
    failed = 0
    total = row.total()
    end = min(total, results.of(row.name)["done"] + most) if most is not None else total
    while results.of(row.name)["done"] < end and time.monotonic() - begin < budget:
        seed = results.of(row.name)["done"]
        figures, failure = {}, None
        try:
            figures = row.trial(seed)
        except Fault as fault:
            failure = str(fault)
        except Exception:  # the harness itself: a failure like any other
            failure = traceback.format_exc()
        finally:
            row.end_jobs()
        results.add(row.name, seed, figures, failure)
        failed += failure is not None
        if failure is not None:
            print(f"{row.name} seed {seed} FAILED: {failure}", flush=True)
    kept = results.of(row.name)
    print(f"{row.name}: {kept['kept']} of {kept['done']} kept ({total} asked for), "
          f"{time.monotonic() - begin:.0f} s now", flush=True)
    return failed


def spread(values):
    ordered = sorted(values)
    if not ordered:
        return ""
    middle = ordered[len(ordered) // 2]
    return f"{middle:.3g} (most {ordered[-1]:.3g})"


def figure_text(figures):
    return "; ".join(f"{name}: {sum(values)}" if all(value == 1 for value in values) else f"{name}: {spread(values)}"
                     for name, values in figures.items())


def table(results):
    lines = [BEGIN, "", "| row | fault | promise | kept / trials (asked for) | figures: median | date |",
             "|---|---|---|---|---|---|"]
    for kind in ROWS:
        row = results.rows.get(kind.name)
        if row and row["done"]:
            asked = row.get("asked", kind.trials)
            lines.append(f"| {kind.name} | {kind.fault} | {kind.promise} | {row['kept']} / {row['done']} ({asked}) | "
                         f"{figure_text(row['figures'])} | {row['date']} |")
    processor = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                      if line.startswith("model name")), platform.machine())
    kernel = platform.release().split("-")[0]
    lines += ["", f"Machine: {processor}, Linux {kernel}. Every trial is numbered, and the number is the "
              "seed of its random choices: `scripts/fault_matrix.sh --rows NAME` repeats them. With no failure in N "
              "trials the failure rate is below 3/N with 95 % confidence, no more.", END]
    return "\n".join(lines)


def report(results, page):
    text = page.read_text()
    begin, end = text.index(BEGIN), text.index(END) + len(END)
    page.write_text(text[:begin] + table(results) + text[end:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--failpoint-program", help="for the rows that need a build with SUPERSTEP_FAILPOINTS")
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS])
    parser.add_argument("--trials", type=int, help="at most this many more of each row")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no new trial of a row after this time")
    parser.add_argument("--minutes", type=float, help="how long faults go on in goodput and soak")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--results", default=str(SOURCE / "tests/fault/results.json"))
    arguments = parser.parse_args()
    program = str(pathlib.Path(arguments.program).resolve())
    failpoint_program = str(pathlib.Path(arguments.failpoint_program or program).resolve())
    if arguments.report:
        report(Results(pathlib.Path(arguments.results)), SOURCE / "docs/reliability.md")
        return 0
    failed = 0
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # jobs are ended on the way out
    with tempfile.TemporaryDirectory(prefix="superstep-faults-") as directory:
        quick_results = pathlib.Path(directory) / "results.json"
        results = Results(quick_results if arguments.quick else pathlib.Path(arguments.results), version)
        for kind in ROWS:
            most = kind.quick if arguments.quick else arguments.trials
            if (arguments.rows and kind.name not in arguments.rows) or most == 0:
                continue
            row = kind(failpoint_program if kind.needs_failpoints else program, pathlib.Path(directory))
            row.minutes = arguments.minutes or kind.minutes
            if not row.is_possible():
                print(f"[  SKIPPED ] {row.name}: not possible here", flush=True)  # the CI looks for the mark
                failed += arguments.rows is not None  # what is asked for by name must run
                continue
            results.of(row.name)["asked"] = row.total()
            failed += run_row(row, results, most, arguments.seconds)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
