#!/usr/bin/env python3
"""Compares the bytes that allreduces send with Open MPI's own count of them (pml_monitoring).

usage: monitoring_test.py PROGRAM MPIRUN...

A job is run with and without its allreduces; the difference of what Open MPI saw leave each process is
what they sent. It must be what the ranks counted themselves and, for powers of two, at most 1.001 times
the bound 2 (p - 1)/p n.
"""
import os
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ""
MPIRUN = []
REPETITIONS = 5


def run(processes, algorithm, elements, repetitions):
    """Bytes sent in the repetitions by each rank as it counts itself, and in all as Open MPI does."""
    with tempfile.TemporaryDirectory() as directory:
        prefix = os.path.join(directory, "monitoring")
        monitoring = ["--mca", "pml_monitoring_enable", "2", "--mca", "pml_monitoring_enable_output", "3",
                      "--mca", "pml_monitoring_filename", prefix]
        done = subprocess.run(
            MPIRUN + ["-n", str(processes)] + monitoring + [PROGRAM, algorithm, str(elements), str(repetitions)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, text=True, errors="replace")
        if done.returncode != 0:
            raise AssertionError(f"exit code {done.returncode}: {done.stdout}")
        counted = next(line for line in done.stdout.splitlines() if line.startswith("sent")).split()[1:]
        seen = [read_profile(f"{prefix}.{rank}.prof", rank) for rank in range(processes)]
        return [int(count) for count in counted], seen


def read_profile(path, rank):
    """Bytes of point-to-point messages of the application ("E") from `rank` to others."""
    total = 0
    with open(path, encoding="utf-8") as profile:
        for line in profile:
            fields = line.split("\t")
            if fields[0] == "E" and int(fields[1]) == rank and int(fields[2]) != rank:
                total += int(fields[3].split()[0])
    return total


class MonitoringTest(unittest.TestCase):
    def bytes_per_call(self, processes, algorithm, elements):
        _, idle = run(processes, algorithm, elements, 0)
        counted, busy = run(processes, algorithm, elements, REPETITIONS)
        seen = [b - i for b, i in zip(busy, idle)]
        self.assertEqual(seen, counted, f"{algorithm}, {processes} processes: Open MPI saw {seen}, ranks counted {counted}")
        self.assertTrue(all(count % REPETITIONS == 0 for count in counted), counted)
        return [count // REPETITIONS for count in counted]

    def test_large_allreduces_send_the_bound_for_powers_of_two(self):
        elements = 1 << 20
        for processes in (2, 4):
            bound = 2 * (processes - 1) * elements * 4 // processes
            for algorithm in ("world", "shards", "halving_doubling"):
                with self.subTest(algorithm, processes=processes):
                    for count in self.bytes_per_call(processes, algorithm, elements):
                        self.assertLessEqual(count, 1.001 * bound)
                        self.assertGreaterEqual(count, bound)
                        print(f"{algorithm}, {processes} processes, {elements} floats: {count} bytes a rank, "
                              f"{count / bound:.6f} x bound")

    def test_other_numbers_of_ranks_send_at_most_twice_the_elements(self):
        elements = 3 << 18
        for algorithm in ("world", "shards", "halving_doubling"):
            with self.subTest(algorithm):
                for count in self.bytes_per_call(3, algorithm, elements):
                    self.assertLessEqual(count, 2 * elements * 4)

    def test_short_allreduces_double(self):
        self.assertEqual(self.bytes_per_call(4, "recursive_doubling", 100), [2 * 100 * 4] * 4)


if __name__ == "__main__":
    PROGRAM, *MPIRUN = sys.argv[1:]
    sys.argv = sys.argv[:1]
    unittest.main(verbosity=2)
