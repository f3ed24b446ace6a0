"""Runs the built program end to end. What the program_*_test.py beside it share; each of them runs as

    program_X_test.py PROGRAM GROUP[.TEST]...     GROUP: one of its classes, which is one ctest entry
    program_X_test.py PROGRAM --groups NAME...    whether these are all of its groups: none is forgotten in ctest

Everything runs on small data in a temporary directory. Python's standard library only.
"""

import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = ""
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none"]
# More ranks than cores, as any user, and without spinning; the number of kernel threads is the program's.
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
ENVIRONMENT.pop("OMP_NUM_THREADS", None)
SOURCE = pathlib.Path(__file__).resolve().parents[2]

# Batch normalisation, dropout and an uneven last batch: 75 samples in batches of 20.
CONFIG = """
[data]
format = "synthetic"
num_train = 75
num_test = 30
sample_shape = [1, 6, 6]
num_classes = 3

[train]
epochs = 3
global_batch = 20
microbatches = 8
evaluation_batch = 16

[optimizer]
kind = "adam"
learning_rate = 0.01
clip_global_norm = 1.0

[checkpoint]
every_supersteps = 4
keep = 10

[[model.layers]]
kind = "conv2d"
filters = 4
[[model.layers]]
kind = "batch_norm"
[[model.layers]]
kind = "relu"
[[model.layers]]
kind = "flatten"
[[model.layers]]
kind = "dropout"
rate = 0.3
[[model.layers]]
kind = "dense"
units = 3
"""

IDX_CONFIG = """
[model]
preset = "softmax_regression"
[data]
directory = "DIRECTORY"
num_classes = 3
[train]
global_batch = 6
microbatches = 2
"""


class Outcome:
    def __init__(self, process):
        self.code = process.returncode
        self.stdout = process.stdout
        self.text = process.stdout + process.stderr

    def hash(self):
        found = re.search(r"^final: test_accuracy=\d\.\d{4,} test_loss=\d+\.\d+ "
                          r"parameters_hash=(xxh3:[0-9a-f]{32})$", self.stdout, re.M)
        return found.group(1) if found else None


class ProgramTest(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="superstep-program-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.config = self.write("run.toml", CONFIG)
        self.count = 0

    def write(self, name, content):
        path = self.directory / name
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        return str(path)

    def run_program(self, *arguments, mpirun=(), env=None, timeout=100):
        command = [*mpirun, PROGRAM, *map(str, arguments)]
        process = subprocess.run(command, cwd=self.directory, capture_output=True, text=True,
                                 timeout=timeout, env={**ENVIRONMENT, **(env or {})}, check=False)
        return Outcome(process)

    def train(self, *arguments, out=None, **options):
        self.count += 1
        out = out or self.directory / f"run{self.count}"
        return self.run_program("train", self.config, "--out", out, *arguments, **options)

    def expect_failure(self, outcome, code, pattern):
        self.assertEqual(outcome.code, code, outcome.text)
        self.assertRegex(outcome.text, pattern)


class ResumeTest(ProgramTest):
    LONG = ("--set", "train.epochs=80")
    known_hashes = {}

    def long_hash(self):
        """Of an undisturbed LONG run, made once for all tests of a program."""
        if "long" not in ResumeTest.known_hashes:
            ResumeTest.known_hashes["long"] = self.train(*self.LONG).hash()
        return ResumeTest.known_hashes["long"]

    def wait_for_superstep(self, out, superstep, process):
        """Until metrics.jsonl has the superstep, so that a kill comes in the middle."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            metrics = out / "metrics.jsonl"
            if metrics.exists() and f'"superstep":{superstep},' in metrics.read_text():
                return
            self.assertIsNone(process.poll(), "the program ended before it was stopped")
            time.sleep(0.01)
        self.fail(f"superstep {superstep} was not reached")

    def start(self, out, *arguments, mpirun=()):
        return subprocess.Popen([*mpirun, PROGRAM, "train", self.config, "--out", str(out), *arguments],
                                cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=ENVIRONMENT)

    def paste(self, command, env=None):
        """The command as a person would run it."""
        return Outcome(subprocess.run(["bash", "-c", command], cwd=self.directory, capture_output=True, text=True,
                                      timeout=100, env=env or ENVIRONMENT, check=False))

    @staticmethod
    def ranks_of(process):
        listing = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(process.pid)],
                                 capture_output=True, text=True, check=True)
        return [int(line.split()[0]) for line in listing.stdout.splitlines() if "superstep" in line]

    def supersteps_of(self, out):
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [line["superstep"] for line in lines if line["type"] == "superstep"]


def idx(magic, sizes, values):
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes) + bytes(values)


def idx_files(num=24, size=6, classes=3):
    """File names and contents of a small IDX data set: class k is bright in row k."""
    files = {}
    for part, count in (("train", num), ("t10k", num // 2)):
        labels = [i % classes for i in range(count)]
        pixels = []
        for i, label in enumerate(labels):
            for row in range(size):
                pixels += [(200 if row == label else 0) + (7 * i + 13 * row + column) % 40
                           for column in range(size)]
        files[f"{part}-images-idx3-ubyte"] = idx(0x803, [count, size, size], pixels)
        files[f"{part}-labels-idx1-ubyte"] = idx(0x801, [count], labels)
    return files


def run(names, groups):
    suite = unittest.TestSuite()
    for name in names:
        group, _, test = name.partition(".")
        cases = unittest.defaultTestLoader.loadTestsFromTestCase(groups[group])
        suite.addTests(case for case in cases if test in case.id())
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return result.wasSuccessful() and result.testsRun > 0


def main(*cases):
    """Runs what the command line says (above); returns the exit status."""
    global PROGRAM
    PROGRAM = os.path.abspath(sys.argv[1])
    groups = {case.__name__: case for case in cases}
    if sys.argv[2] == "--groups":
        return 0 if sorted(sys.argv[3:]) == sorted(groups) else f"the groups are {' '.join(groups)}"
    return 0 if run(sys.argv[2:], groups) else 1
