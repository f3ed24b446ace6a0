#!/usr/bin/env python3
"""One result for every shape of the world: threads, processes, nodes, placement. How to run it: program_support.py."""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import MPIRUN, ProgramTest  # noqa: E402


class InvarianceTest(ProgramTest):
    """One parameters_hash for every shape of the world."""

    def hash_of(self, *arguments, **options):
        outcome = self.train(*arguments, **options)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertIsNotNone(outcome.hash(), outcome.text)
        return outcome.hash()

    def expect_same(self, rows):
        expected = self.hash_of()
        for arguments, options in rows:
            with self.subTest(arguments=arguments, **options):
                self.assertEqual(self.hash_of(*arguments, **options), expected)


class LanesInvariance(InvarianceTest):
    def test_lanes(self):
        self.expect_same([(["--lanes", n], {}) for n in ("2", "3", "8")])

    def test_nodes_of_lanes(self):
        self.expect_same([(["--set", "bsp.ranks_per_node=1", "--lanes", "3"], {}),
                          (["--set", "bsp.ranks_per_node=2", "--lanes", "4"], {})])

    def test_placement_buckets_and_prefetch(self):
        random = "train.slot_placement=random"
        self.expect_same([
            (["--set", random, "--lanes", "3"], {}),
            (["--set", random, "--set", "bsp.ranks_per_node=1", "--lanes", "4"], {}),
            (["--set", "train.slot_placement=measured", "--lanes", "2"], {}),
            (["--set", "train.slot_placement=stealing", "--lanes", "3"], {}),
            (["--set", "train.slot_placement=stealing", "--set", "bsp.ranks_per_node=2",
              "--lanes", "4"], {}),
            (["--set", "server.bucket_bytes=4096", "--lanes", "2"], {}),
            (["--set", "train.prefetch_depth=7"], {}),
        ])

    def test_thread_counts_of_the_environment(self):
        self.expect_same([(["--lanes", "2"], {"env": {"OMP_NUM_THREADS": "2"}})])

    def test_bf16(self):
        bf16 = ["--set", "train.precision=bf16"]
        expected = self.hash_of(*bf16)
        self.assertNotEqual(expected, self.hash_of())
        for arguments in (["--lanes", "3"], ["--lanes", "2", "--set", "bsp.ranks_per_node=1"]):
            with self.subTest(arguments=arguments):
                self.assertEqual(self.hash_of(*bf16, *arguments), expected)

    def test_other_seeds_give_other_bits(self):
        self.assertNotEqual(self.hash_of(), self.hash_of("--set", "train.seed=2"))


class ProcessesInvariance(InvarianceTest):
    def test_processes(self):
        self.expect_same([([], {"mpirun": [*MPIRUN, "-n", n]}) for n in ("1", "2", "3", "4")])

    def test_bf16(self):
        bf16 = ["--set", "train.precision=bf16"]
        self.assertEqual(self.hash_of(*bf16, "--lanes", "2", mpirun=[*MPIRUN, "-n", "2"]), self.hash_of(*bf16))

    def test_mixed_worlds_and_nodes(self):
        self.expect_same([
            (["--lanes", "2"], {"mpirun": [*MPIRUN, "-n", "2"]}),
            (["--set", "bsp.ranks_per_node=1"], {"mpirun": [*MPIRUN, "-n", "3"]}),
            (["--set", "bsp.ranks_per_node=2", "--lanes", "2"], {"mpirun": [*MPIRUN, "-n", "2"]}),
        ])

    def test_ranks_bound_to_cores(self):
        expected = self.hash_of()
        outcome = self.train(mpirun=["mpirun", "--oversubscribe", "--bind-to", "core:overload-allowed",
                                     "--report-bindings", "-n", "2"])
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertEqual(outcome.hash(), expected)
        # Each rank on one core: "MCW rank 0 bound to socket 0[core 0[hwt 0]]: [B/.]".
        reports = re.findall(r"MCW rank (\d) bound to (.*): \[", outcome.text)
        self.assertEqual(sorted(rank for rank, _ in reports), ["0", "1"], outcome.text)
        for _, cores in reports:
            self.assertEqual(cores.count("core "), 1, cores)

    def test_mapping_and_thread_counts(self):
        self.expect_same([
            ([], {"mpirun": ["mpirun", "--oversubscribe", "--map-by", "node", "-n", "3"]}),
            ([], {"mpirun": [*MPIRUN, "-n", "2"], "env": {"OMP_NUM_THREADS": "2"}}),
            (["--set", "train.slot_placement=random"], {"mpirun": [*MPIRUN, "-n", "3"]}),
            (["--set", "train.slot_placement=stealing"], {"mpirun": [*MPIRUN, "-n", "2"]}),
        ])


if __name__ == "__main__":
    sys.exit(program_support.main(LanesInvariance, ProcessesInvariance))
