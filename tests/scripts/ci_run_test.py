"""Runs .ci/run in a tree of its own with stand-ins for every leg."""

import os
import shutil
import subprocess
import unittest

from tree import SCRIPTS, TreeTest

SUMMARY = "100% tests passed, 0 tests failed out of 7\n\nTotal Test time (real) =   6.20 sec"


class CiRun(TreeTest):
    def setUp(self):
        super().setUp()
        self.repository = os.path.join(self.root, "repository")
        os.makedirs(os.path.join(self.repository, ".ci"))
        shutil.copy(os.path.join(SCRIPTS, "..", ".ci", "run"), os.path.join(self.repository, ".ci"))
        for script in ("install_dependencies.sh", "check_floors.py", "check_targets.py", "fuzz.sh", "lint_changed.sh"):
            self.script(script, "true")
        self.script("test.sh", f'echo "data=$SUPERSTEP_TEST_DATA"; echo "{SUMMARY}"')
        for tool in ("cmake", "ctest", "clang-format"):
            self.write(f"bin/{tool}", "#!/bin/sh\ntrue\n", executable=True)
        self.log("[       OK ] Suite.Test")
        subprocess.run(["git", "init", "--quiet"], cwd=self.repository, check=True)

    def script(self, name, body):
        self.write(f"repository/scripts/{name}", f"#!/bin/sh\n{body}\n", executable=True)

    def log(self, text):
        self.write("repository/build/release/Testing/Temporary/LastTest.log", text + "\n")

    def run_it(self):
        path = os.path.join(self.root, "bin") + os.pathsep + os.environ["PATH"]
        environment = {name: value for name, value in os.environ.items() if name != "SUPERSTEP_TEST_DATA"}
        return subprocess.run([os.path.join(self.repository, ".ci/run")], capture_output=True, text=True, check=False,
                              env={**environment, "PATH": path})

    def test_passes_and_ends_with_the_summary_of_the_release_tests(self):
        result = self.run_it()
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertTrue(result.stdout.rstrip().endswith("Total Test time (real) =   6.20 sec"), result.stdout)
        for leg in ("install", "format", "floors", "targets", "release", "skips", "benchmarks", "lint", "asan", "tsan", "fuzz"):
            self.assertRegex(result.stdout, rf"{leg} +\d+ s  passed")

    def test_any_failing_leg_fails_the_whole_but_the_others_still_run(self):
        for name, leg in [("check_floors.py", "floors"), ("check_targets.py", "targets"), ("lint_changed.sh", "lint"),
                          ("test.sh", "release"), ("fuzz.sh", "fuzz")]:
            with self.subTest(leg=leg):
                self.setUp()
                self.script(name, "exit 3")
                result = self.run_it()
                self.assertEqual(result.returncode, 1)
                self.assertRegex(result.stdout, rf"{leg} +\d+ s  FAILED \(3\)")
                self.assertRegex(result.stdout, r"tsan +\d+ s  passed")
                self.assertIn(f"failed: {leg}", result.stdout)

    def test_failing_sanitizer_tests_fail(self):
        self.write("bin/ctest", '#!/bin/sh\n[ "$2" != asan ]\n', executable=True)
        result = self.run_it()
        self.assertEqual(result.returncode, 1)
        self.assertIn("failed: asan", result.stdout)

    def test_a_skipped_test_fails(self):
        self.log("[  SKIPPED ] Suite.Test (0 ms)")
        result = self.run_it()
        self.assertEqual(result.returncode, 1)
        self.assertIn("failed: skips", result.stdout)

    def test_nothing_runs_without_the_packages(self):
        self.script("install_dependencies.sh", "exit 100")
        result = self.run_it()
        self.assertEqual(result.returncode, 1)
        self.assertNotIn("=== release", result.stdout)

    def test_development_data_are_used_where_they_are(self):
        self.assertIn("data=\n", self.run_it().stdout)
        os.makedirs(os.path.join(self.root, "shared/data"))
        self.assertIn(f"data={os.path.realpath(self.root)}/shared/data\n", self.run_it().stdout)


if __name__ == "__main__":
    unittest.main()
