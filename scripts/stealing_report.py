#!/usr/bin/env python3
"""Turns the results of measure_stealing.sh into a section of docs/benchmarks.md.

    stealing_report.py RESULTS docs/benchmarks.md       fails when hashes differ
"""

import pathlib
import statistics
import sys

from benchmark_section import describe_machine, write_section


def main():
    seconds, hashes = {}, set()
    for line in pathlib.Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        name, time, parameters_hash = line.split()
        seconds.setdefault(name, []).append(float(time))
        hashes.add(parameters_hash)
    if len(hashes) != 1:
        sys.exit(f"stealing_report.py: different parameters: got {sorted(hashes)}, expected one hash")
    healthy = statistics.median(seconds["healthy-contiguous"])
    rows = "\n".join(
        f"| {name.replace('-', ', ')} | {statistics.median(times):.2f} | {min(times):.2f} to {max(times):.2f} "
        f"| {statistics.median(times) / healthy:.2f} |" for name, times in seconds.items())
    write_section(sys.argv[2], "stealing", f"""
## One of two ranks at half speed

Written by `scripts/measure_stealing.sh`. Machine: {describe_machine()}.

The CNN with 1,663,370 parameters, global batch 256 in 16 slots, 40 supersteps, two ranks bound to two cores; "slowed":
the second rank shares its core with an endless loop. All runs end with parameters {hashes.pop()}. The ideal with a rank
at half speed is 1.33, slots dealt in advance give 2.

| ranks, placement | seconds, median | spread | healthy = 1 |
|---|---|---|---|
{rows}
""")


if __name__ == "__main__":
    main()
