#!/usr/bin/env python3
"""Runs fault_program over lanes and processes and checks what it says and how it ends.

usage: fault_test.py Missing|Mismatch|Error PROGRAM MPIRUN...
"""
import os
import re
import subprocess
import sys
import time
import unittest

PROGRAM = ""
MPIRUN = []

# (name, command prefix, lanes); every topology has at least two ranks.
LANES = ("lanes", 0, 3)
PROCESSES = ("processes", 3, 1)
MIXED = ("mixed", 2, 2)
FOUR = ("four processes", 4, 1)
ALL = (LANES, PROCESSES, MIXED)


def run(topology, scenario, culprit, ranks_per_node=0, checks="sync", env=None):
    _, processes, lanes = topology
    prefix = MPIRUN + ["-n", str(processes)] if processes else []
    begin = time.monotonic()
    done = subprocess.run(
        prefix + [PROGRAM, scenario, str(lanes), str(ranks_per_node), str(culprit), checks],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, text=True, errors="replace",
        env={**os.environ, **(env or {})})
    return done.returncode, done.stdout, time.monotonic() - begin


class FaultTest(unittest.TestCase):
    def check(self, result, code, *patterns):
        got, text, _ = result
        for pattern in patterns:
            self.assertRegex(text, re.compile(pattern, re.S), text)
        self.assertEqual(got, code, text)


class Missing(FaultTest):
    """Ranks that do not arrive."""

    def test_a_rank_that_computes_without_end_is_named(self):
        for topology, culprit in ((LANES, 0), (LANES, 1), (PROCESSES, 0), (MIXED, 1)):
            with self.subTest(topology[0], culprit=culprit):
                result = run(topology, "endless", culprit)
                self.check(result, 75, r"ranks \{%d\} did not arrive" % culprit,
                           r'rank %d: computing in superstep 3, phase "backward", last call '
                           r"sync at tests/bsp/fault_program.cpp:\d+[^\n]*; host \S+" % culprit)
                self.assertLess(result[2], 15)

    def test_a_silent_process_of_another_node_is_named(self):
        self.check(run(PROCESSES, "endless", 1, ranks_per_node=1), 75, r"ranks \{1\} did not arrive",
                   r"rank 1: no answer from its node, last seen at superstep 3")

    def test_a_lane_of_another_node_is_named_by_its_waiting_process(self):
        self.check(run(MIXED, "endless", 1, ranks_per_node=1), 75, r"ranks \{1\} did not arrive",
                   r'rank 1: computing in superstep 3, phase "backward"')

    def test_a_rank_of_another_node_that_finished_is_named(self):
        self.check(run(PROCESSES, "returns_early", 1, ranks_per_node=1), 75,
                   r"ranks \{1\} did not arrive", r"rank 1: finished after superstep 2")

    def test_a_rank_that_returns_early_is_named(self):
        for topology in ALL:
            with self.subTest(topology[0]):
                self.check(run(topology, "returns_early", 1), 75, r"ranks \{1\} did not arrive",
                           r"rank 1: finished after superstep 2")


class Mismatch(FaultTest):
    """Ranks that do something else than the others."""

    def test_a_different_argument_is_found_at_the_sync(self):
        for topology in ALL:
            with self.subTest(topology[0]):
                self.check(run(topology, "other_root", 1), 5, "different collective calls",
                           r"ranks \{1\}: call 2 since the last sync: broadcast\(float32, 0 elements, root 1\) "
                           r"at \S*fault_program.cpp:\d+",
                           r"ranks \{0, 2(, 3)?\}: call 2 since the last sync: broadcast\(float32, 0 elements, "
                           r"root 0\) at \S*fault_program.cpp:\d+")

    def test_a_different_call_is_found_before_it_does_harm(self):
        for topology in ALL:
            with self.subTest(topology[0]):
                self.check(run(topology, "other_operation", 1, checks="every_call"), 5,
                           r"ranks \{1\}: call 1 since the last sync: allgather\(float32, 3?4? elements",
                           r"ranks \{0, 2(, 3)?\}: call 1 since the last sync: allreduce\(float32, sum, 1 element\)")

    def test_a_skipped_call_is_found_before_it_does_harm(self):
        for topology in ALL:
            with self.subTest(topology[0]):
                self.check(run(topology, "skips_a_call", 1, checks="every_call"), 5,
                           r"ranks \{1\}: call 1 since the last sync: sync\(\)",
                           r"allreduce\(float32, sum, 1 element\)")

    def test_a_skipped_call_never_passes_silently(self):
        for topology in ALL:
            with self.subTest(topology[0]):
                code, text, _ = run(topology, "skips_a_call", 1)
                self.assertIn(code, (5, 75), text)
                self.assertRegex(text, r"allreduce", text)

    def test_a_different_value_is_named_with_both_values(self):
        for topology in ALL:
            with self.subTest(topology[0]):
                self.check(run(topology, "other_value", 1), 5,
                           r'learning_rate is not the same on all ranks: got "0.1" on ranks \{1\}, expected "0.2"')


class Error(FaultTest):
    """Ranks that fail, stop, or never start; and runs without a fault."""

    def test_a_healthy_run_completes(self):
        for topology in ALL:
            for checks in ("sync", "every_call"):
                with self.subTest(topology[0], checks=checks):
                    self.check(run(topology, "healthy", 0, checks=checks), 0, "COMPLETE")

    def test_a_stopped_process_is_named(self):
        for culprit in (0, 2):
            with self.subTest(culprit=culprit):
                self.check(run(PROCESSES, "stopped", culprit), 75,
                           r"ranks \{%d\} did not arrive" % culprit, r'phase "input"')

    def test_all_ranks_of_a_stopped_process_are_named(self):
        self.check(run(MIXED, "stopped", 2), 75, r"ranks \{2(, 3)?\} did not arrive", r'phase "input"')

    def test_a_process_stopped_in_a_call_is_named_on_its_node_and_on_others(self):
        for ranks_per_node in (0, 2):
            with self.subTest(ranks_per_node=ranks_per_node):
                self.check(run(FOUR, "stopped_in_call", 3, ranks_per_node=ranks_per_node), 75,
                           r"ranks \{3\} (arrived, but do not run|did not arrive):\n +rank 3: .*stopped by a signal")

    def test_a_rank_that_throws_ends_the_job_with_its_message_and_code(self):
        for topology, culprit in ((LANES, 0), (LANES, 1), (PROCESSES, 1), (MIXED, 0)):
            with self.subTest(topology[0], culprit=culprit):
                result = run(topology, "throws", culprit)
                self.check(result, 3, r"\[rank %d\] \[Reader\] images.idx, byte 16: label out of "
                           r"range: got 11" % culprit)
                self.assertLess(result[2], 10)

    def test_a_remedy_follows_the_message_and_is_not_waited_for_long(self):
        message = r"\[rank %d\] \[Reader\] images.idx, byte 16: label out of range: got 11[^\n]*\n"
        for topology, culprit in ((("alone", 0, 1), 0), (LANES, 1), (PROCESSES, 1)):
            with self.subTest(topology[0], culprit=culprit):
                self.check(run(topology, "remedy", culprit), 3, message % culprit + "take another file\n")
                result = run(topology, "hanging_remedy", culprit)
                self.check(result, 3, message % culprit + r".*how to go on was not found within 2\.00 s")
                self.assertLess(result[2], 15)

    def test_processes_with_different_options_do_not_start(self):
        self.check(run(PROCESSES, "other_options", 1), 2, "different options", "1000 ms", "2000 ms")

    def test_a_failed_setup_is_reported_once_with_its_process(self):
        result = run(PROCESSES, "setup_fails", 2)
        self.check(result, 3, r"\[processes \{2\}\] data directory missing")
        self.assertEqual(result[1].count("data directory missing"), 1, result[1])

    def test_a_process_lost_during_setup_is_named_once(self):
        for culprit in (0, 1):
            with self.subTest(culprit=culprit):
                result = run(PROCESSES, "stopped_in_setup", culprit, env={"SUPERSTEP_SETUP_DEADLINE_SECONDS": "1"})
                self.check(result, 75, r"\[Environment\] set-up: waited 1 s for process %d on \S+, which is lost" % culprit)
                self.assertEqual(result[1].count("[Environment] set-up"), 1, result[1])
                self.assertLess(result[2], 20)


if __name__ == "__main__":
    GROUP, PROGRAM, *MPIRUN = sys.argv[1:]
    sys.argv = [sys.argv[0], GROUP]
    unittest.main(verbosity=2)
