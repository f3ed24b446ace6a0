#!/usr/bin/env python3
"""The SPMD fixture fails, and says why, whichever rank fails; and it never hangs.

usage: spmd_fixture_test.py PROGRAM MPIRUN...
"""
import os
import subprocess
import sys
import unittest

PROGRAM = ""
MPIRUN = []


def run(test, processes, lanes, ranks=None):
    environment = dict(os.environ, SUPERSTEP_TEST_LANES=str(lanes),
                       SUPERSTEP_TEST_RANKS=str(ranks or (processes or 1) * lanes))
    prefix = MPIRUN + ["-n", str(processes)] if processes else []
    done = subprocess.run(prefix + [PROGRAM, "--gtest_filter=" + test], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60, text=True, errors="replace",
                          env=environment)
    return done.returncode, done.stdout


class SpmdFixtureTest(unittest.TestCase):
    def expect_failure(self, test, *texts):
        for processes, lanes in ((0, 3), (3, 1), (2, 2)):
            with self.subTest(processes=processes, lanes=lanes):
                code, output = run(test, processes, lanes)
                self.assertNotEqual(code, 0, output)
                last = (processes or 1) * lanes - 1
                for text in texts:
                    self.assertIn(text.format(last=last, size=last + 1), output)

    def test_a_failed_expectation_names_its_rank(self):
        self.expect_failure("Failing.ExpectOnTheLastRank", "[rank {last} of {size}]", "the last rank says so")

    def test_a_failed_assertion_does_not_hang_the_other_ranks(self):
        self.expect_failure("Failing.AssertOnTheLastRank*", "[rank {last}", "the last rank stops here")

    def test_an_exception_does_not_hang_the_other_ranks(self):
        self.expect_failure("Failing.ExceptionOnTheLastRank", "[rank {last}", "thrown by the last rank")

    def test_a_collective_expectation_names_the_failing_ranks(self):
        self.expect_failure("Failing.CollectiveExpectation", "false on ranks {{1}} of {size}", "world.rank() != 1")

    def test_lanes_go_on_with_the_next_test(self):
        code, output = run("*", 0, 2)
        self.assertNotEqual(code, 0)
        self.assertIn("[       OK ] Passing.OnEveryRank", output)
        self.assertIn("4 FAILED TESTS", output)

    def test_a_passing_test_passes(self):
        for processes, lanes in ((0, 3), (3, 1), (2, 2)):
            with self.subTest(processes=processes, lanes=lanes):
                code, output = run("Passing.*", processes, lanes)
                self.assertEqual(code, 0, output)

    def test_another_number_of_ranks_than_registered_fails(self):
        code, output = run("Passing.*", 0, 2, ranks=3)
        self.assertNotEqual(code, 0)
        self.assertIn("SUPERSTEP_TEST_RANKS", output)

    def test_a_filter_that_matches_nothing_fails(self):
        self.assertNotEqual(run("Nothing.*", 0, 2)[0], 0)


if __name__ == "__main__":
    PROGRAM, *MPIRUN = sys.argv[1:]
    sys.argv = sys.argv[:1]
    unittest.main(verbosity=2)
