"""Runs the script in a tree of its own with stand-ins for mpirun and the program; judges results without a run."""

import importlib.util
import os
import shutil
import subprocess
import unittest

from tree import SCRIPTS, TreeTest

PROGRAM = """#!/bin/sh
# superstep train CONFIG --out DIRECTORY
case "$1" in --version) echo "build: -O3"; exit;; esac
mkdir -p "$4"
echo '{"model": {"parameters": 1000}, "progress": {"epochs": 1}}' >"$4/summary.json"
echo "final: test_accuracy=ACCURACY test_loss=0.1 parameters_hash=xxh3:0123456789abcdef"
"""
README = "# x\n<!-- results: begin -->\nold\n<!-- results: end -->\n"


class MeasureResults(TreeTest):
    def setUp(self):
        super().setUp()
        os.makedirs(os.path.join(self.root, "scripts"))
        shutil.copy(os.path.join(SCRIPTS, "measure_results.py"), os.path.join(self.root, "scripts"))
        self.write("scripts/plot_metrics.py", "#!/bin/sh\ntrue\n", executable=True)
        self.write("README.md", README)
        self.write("bin/mpirun", '#!/bin/sh\nwhile [ "${1##*/}" != superstep ]; do shift; done\nexec "$@"\n',
                   executable=True)

    def run_it(self, accuracy):
        program = self.write("superstep", PROGRAM.replace("ACCURACY", accuracy), executable=True)
        path = os.path.join(self.root, "bin") + os.pathsep + os.environ["PATH"]
        os.makedirs(os.path.join(self.root, "docs"), exist_ok=True)
        return subprocess.run([os.path.join(self.root, "scripts/measure_results.py"), program], capture_output=True,
                              text=True, check=False, env={**os.environ, "PATH": path})

    def readme(self):
        with open(os.path.join(self.root, "README.md"), encoding="utf-8") as file:
            return file.read()

    def test_good_results_are_written(self):
        result = self.run_it("0.9200")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn("| 2NN (fashion_mnist_mlp.toml) | 1,000 | 1 | 0.9200 |", self.readme())

    def test_an_accuracy_below_its_floor_fails_and_is_not_written(self):
        for accuracy, named, other in (("0.9100", "CNN: test accuracy 0.9100, expected at least 0.915", "2NN: test"),
                                       ("0.8870", "2NN: test accuracy 0.8870, expected at least 0.888", "softmax"
                                        " regression: test"), ("nan", "CNN: test accuracy nan", "no such text")):
            with self.subTest(accuracy=accuracy):
                result = self.run_it(accuracy)
                self.assertEqual(result.returncode, 1, result.stdout)
                self.assertIn(named, result.stderr)
                self.assertNotIn(other, result.stderr)
                self.assertEqual(self.readme(), README)

    def test_a_run_that_takes_too_long_is_named(self):
        spec = importlib.util.spec_from_file_location("measure_results", os.path.join(SCRIPTS, "measure_results.py"))
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        self.assertEqual(script.problems("CNN", 0.92, 0.915, 299.0), [])
        self.assertEqual(script.problems("CNN", 0.92, 0.915, 301.0), ["CNN: took 301 s, expected at most 300 s"])
        self.assertEqual(len(script.problems("CNN", 0.9, 0.915, 301.0)), 2)


if __name__ == "__main__":
    unittest.main()
