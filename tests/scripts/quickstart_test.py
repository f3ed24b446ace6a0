"""Runs the quick start in a tree of its own with stand-ins for building and mpirun that write down how they are called."""

import os
import shutil
import subprocess
import unittest

from tree import SCRIPTS, TreeTest


class Quickstart(TreeTest):
    def setUp(self):
        super().setUp()
        self.calls = os.path.join(self.root, "calls")
        os.makedirs(os.path.join(self.root, "scripts"))
        shutil.copy(os.path.join(SCRIPTS, "quickstart.sh"), os.path.join(self.root, "scripts"))
        record = f'#!/bin/sh\necho "$(basename "$0") $*" >> {self.calls}\n'
        self.write("scripts/install_dependencies.sh", record, executable=True)
        self.write("bin/cmake", record, executable=True)
        self.write("bin/mpirun", record + f'echo "root $OMPI_ALLOW_RUN_AS_ROOT$OMPI_ALLOW_RUN_AS_ROOT_CONFIRM" >> {self.calls}\n'
                   'while [ "$1" != --out ]; do shift; done\nmkdir -p "$2"\n', executable=True)
        self.write("bin/date", "#!/bin/sh\necho 20260501-093000\n", executable=True)
        self.cores(2)

    def cores(self, number):
        lines = "\n".join(f"{core},0" for core in range(number))
        self.write("bin/lscpu", f'#!/bin/sh\necho "# CORE,SOCKET"\necho "{lines}"\n', executable=True)

    def run_it(self, *arguments):
        path = os.path.join(self.root, "bin") + os.pathsep + os.environ["PATH"]
        result = subprocess.run([os.path.join(self.root, "scripts/quickstart.sh"), *arguments], capture_output=True,
                                text=True, check=False, env={**os.environ, "PATH": path})
        self.assertEqual(result.returncode, 0, result.stderr)
        with open(self.calls, encoding="utf-8") as calls:
            lines = calls.read().splitlines()
        os.remove(self.calls)
        return lines

    def test_installs_builds_the_program_and_trains_with_two_ranks(self):
        calls = self.run_it()
        self.assertEqual(calls[0].strip(), "install_dependencies.sh")
        self.assertEqual(calls[1], "cmake --preset release")
        self.assertIn("--target superstep ", calls[2])
        self.assertEqual(calls[3], "mpirun -n 2 build/release/superstep train examples/fashion_mnist_cnn.toml "
                         "--out runs/quickstart-20260501-093000")
        self.assertEqual(calls[4], "root 11")

    def test_twice_within_a_second_trains_into_two_directories(self):
        first = self.run_it()[3]
        second = self.run_it()[3]
        self.assertNotEqual(first.split("--out ")[1], second.split("--out ")[1])

    def test_one_core_is_oversubscribed(self):
        self.cores(1)
        self.assertIn("mpirun -n 2 --oversubscribe build", self.run_it()[3])

    def test_arguments_go_to_the_program(self):
        self.assertTrue(self.run_it("--set", "train.epochs=1")[3].endswith(" --set train.epochs=1"))


if __name__ == "__main__":
    unittest.main()
