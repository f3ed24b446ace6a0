"""Runs the script in a tree of its own with stand-ins for cmake and for the targets, which write what libFuzzer writes."""

import os
import shutil
import subprocess
import unittest

from tree import SCRIPTS, TreeTest

STATISTICS = "echo stat::number_of_executed_units: 12; echo stat::new_units_added:          3"


class Fuzz(TreeTest):
    def setUp(self):
        super().setUp()
        os.makedirs(os.path.join(self.root, "scripts"))
        shutil.copy(os.path.join(SCRIPTS, "fuzz.sh"), os.path.join(self.root, "scripts"))
        self.write("tests/fuzz/CMakeLists.txt",
                   "superstep_add_fuzz_target(idx LINK x)\nsuperstep_add_fuzz_target(npz LINK y)\n")
        self.write("bin/cmake", "#!/bin/sh\nexit 0\n", executable=True)
        self.target("idx", STATISTICS)
        self.target("npz", STATISTICS)

    def target(self, name, body):
        self.write(f"build/asan/tests/fuzz/fuzz_{name}", f'#!/bin/sh\necho "$0 $*" >>arguments\n{body}\n', executable=True)

    def run_it(self, *arguments):
        path = os.path.join(self.root, "bin") + os.pathsep + os.environ["PATH"]
        return subprocess.run([os.path.join(self.root, "scripts/fuzz.sh"), *arguments], capture_output=True, text=True,
                              check=False, env={**os.environ, "PATH": path})

    def arguments(self):
        with open(os.path.join(self.root, "build/fuzz/arguments"), encoding="utf-8") as file:
            return sorted(file.read().splitlines())

    def test_every_target_has_a_line_at_the_end(self):
        for mode in ((), ("--ci",), ("--executions", "1000")):
            with self.subTest(mode=mode):
                result = self.run_it(*mode)
                self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                self.assertEqual(result.stdout.splitlines(), [f"{name}: 12 executions, 3 new inputs, 0 crashes"
                                                              for name in ("idx", "npz")])

    def test_a_crash_fails_and_keeps_its_input(self):
        self.target("idx", f"echo 'Test unit written to crashes/idx-crash-1'; {STATISTICS}; exit 77")
        result = self.run_it("--ci")
        self.assertEqual(result.returncode, 1)
        self.assertIn("idx: 12 executions, 3 new inputs, 1 crashes\n", result.stdout)
        self.assertIn("npz: 12 executions, 3 new inputs, 0 crashes\n", result.stdout)
        self.assertIn("-artifact_prefix=crashes/idx-", self.arguments()[0])
        self.assertTrue(os.path.isdir(os.path.join(self.root, "build/fuzz/crashes")))

    def test_a_target_that_does_not_run_fails(self):
        self.target("npz", "exit 1")
        result = self.run_it()
        self.assertEqual(result.returncode, 1)
        self.assertIn("npz: 0 executions", result.stdout)

    def test_executions_and_options_are_passed_on(self):
        self.run_it("--executions", "1000", "npz", "-only_ascii=1")
        self.assertEqual(len(self.arguments()), 1)
        self.assertIn(" -runs=1000 -only_ascii=1 corpus/npz ", self.arguments()[0])

    def test_lists_the_targets(self):
        self.assertEqual(self.run_it("--list").stdout, "idx\nnpz\n")


if __name__ == "__main__":
    unittest.main()
