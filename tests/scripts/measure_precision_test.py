"""Runs the script in a tree of its own with a stand-in for the program, which is twice as fast in bf16."""

import os
import shutil
import subprocess
import unittest

from tree import SCRIPTS, TreeTest

PROGRAM = """#!/bin/sh
rate=1000 accuracy=0.9200
case "$*" in *bf16*) rate=2000 accuracy=ACCURACY ;; esac
case "$1" in
  bench) echo '{"samples_per_second": '$rate', "step_seconds": {"total": 0.1}, "machine": {"processor": "P",
    "instruction_set": "I", "compiler": "C", "build_type": "Release", "build_flags": "-O3", "commit": "abc"}}' ;;
  train) echo "final: test_accuracy=$accuracy test_loss=0.2500 parameters_hash=xxh3:0" ;;
esac
"""


class MeasurePrecision(TreeTest):
    def setUp(self):
        super().setUp()
        os.makedirs(os.path.join(self.root, "scripts"))
        for script in ("measure_precision.py", "benchmark_report.py"):
            shutil.copy(os.path.join(SCRIPTS, script), os.path.join(self.root, "scripts"))
        self.write("docs/benchmarks.md", "# Benchmarks\n")

    def run_it(self, accuracy, *arguments):
        program = self.write("superstep", PROGRAM.replace("ACCURACY", accuracy), executable=True)
        return subprocess.run([os.path.join(self.root, "scripts/measure_precision.py"), "--models", "cnn", "--ranks",
                               "1", *arguments], capture_output=True, text=True, check=False,
                              env={**os.environ, "SUPERSTEP": program})

    def report(self):
        with open(os.path.join(self.root, "docs/benchmarks.md"), encoding="utf-8") as file:
            return file.read()

    def test_speed_and_accuracy_are_written(self):
        result = self.run_it("0.9190")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("| cnn | 1 | 1,000 (1,000-1,000) | 2,000 (2,000-2,000) | 2.00 (2.00-2.00) |", self.report())
        self.assertIn("| CNN (fashion_mnist_cnn.toml) | 0.9200 (0.2500) | 0.9190 (0.2500) |", self.report())

    def test_an_accuracy_that_suffers_fails_and_is_not_written(self):
        result = self.run_it("0.9160")
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertIn("test accuracy 0.9160 in bf16, expected within 0.003 of float32's 0.9200", result.stderr)
        self.assertEqual(self.report(), "# Benchmarks\n")

    def test_without_epochs_nothing_is_trained(self):
        result = self.run_it("0.9160", "--epochs", "0")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertNotIn("Test accuracy", self.report())


if __name__ == "__main__":
    unittest.main()
