#!/usr/bin/env python3
"""Turns the outputs that compare_collectives.sh collected into a section of docs/benchmarks.md.

    collectives_report.py DIRECTORY docs/benchmarks.md
"""

import json
import pathlib
import statistics
import sys

from benchmark_section import describe_machine, write_section

ALGORITHMS = {1: "linear", 2: "nonoverlapping", 3: "recursive doubling", 4: "ring",
              5: "segmented ring", 6: "Rabenseifner"}


def read_rows(directory):
    """bytes -> {algorithm: row}"""
    rows = {}
    for algorithm in ALGORITHMS:
        lines = (directory / f"allreduce{algorithm}.jsonl").read_text(encoding="utf-8").splitlines()
        for line in lines:
            row = json.loads(line)
            rows.setdefault(row["bytes"], {})[algorithm] = row
    return rows


def size_text(num_bytes):
    return f"{num_bytes // 1024} KiB" if num_bytes < 1 << 20 else f"{num_bytes >> 20} MiB"


def allreduce_table(rows):
    table = ["| message | ours, us | best of Open MPI's six, us | ratio (spread) | gloo, us | ratio |",
             "|---|---|---|---|---|---|"]
    for num_bytes, by_algorithm in sorted(rows.items()):
        best = min(by_algorithm, key=lambda a: by_algorithm[a]["mpi_us"])
        row = by_algorithm[best]
        ours = statistics.median(r["ours_us"] for r in by_algorithm.values())
        gloo = [r["gloo_us"] for r in by_algorithm.values() if "gloo_us" in r]
        gloo_ratio = [r["gloo_ratio"] for r in by_algorithm.values() if "gloo_ratio" in r]
        table.append(
            f"| {size_text(num_bytes)} | {ours:.2f} | {row['mpi_us']:.2f} ({ALGORITHMS[best]}) | "
            f"{row['mpi_ratio']:.2f} ({row['mpi_ratio_low']:.2f} to {row['mpi_ratio_high']:.2f}) | "
            + (f"{statistics.median(gloo):.2f} | {statistics.median(gloo_ratio):.2f} |" if gloo
               else "not installed | |"))
    return "\n".join(table)


def main():
    directory = pathlib.Path(sys.argv[1])
    sync = (directory / "sync.txt").read_text(encoding="utf-8").strip()
    exchange = (directory / "exchange.txt").read_text(encoding="utf-8").strip()
    write_section(sys.argv[2], "collectives", f"""
## Sync, exchange and allreduce, two ranks

Written by `scripts/compare_collectives.sh`. Machine: {describe_machine()}.

Sync is the verified synchronisation of a superstep (the fingerprint of the collective calls travels with it):

```
{sync}
```

The exchange of a superstep: two syncs, gradients of all ranks added along the tree, mean, momentum update, parameters
published. "of stream": the bytes it must move, per second, as a share of a loop `a[i] = a[i] * s + b[i]` in the same
run. "x by hand": against the same arithmetic as one hand-written loop over raw arrays in the order of ranks, between
the same syncs, which is what the tree and the generality cost. The peer is `MPI_Allreduce` into a second buffer and the
same update on every rank, with an allocator that keeps its memory.

```
{exchange}
```

Allreduce of float32 sums in shared memory. Open MPI's algorithms are forced one after another; the ratio is within the
run of the best one. Gloo goes over TCP on the loopback device.

{allreduce_table(read_rows(directory))}
""")


if __name__ == "__main__":
    main()
