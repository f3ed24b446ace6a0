#!/usr/bin/env python3
"""Examples that are trained. How to run it: program_support.py."""

import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import MPIRUN, SOURCE, ProgramTest  # noqa: E402


class Resnet20(ProgramTest):
    CUT = ("--set", "data.num_train=64", "--set", "data.num_test=32", "--set", "train.epochs=4")

    def test_learns_with_the_same_bits_in_every_world(self):
        self.config = str(SOURCE / "examples/resnet20_synthetic.toml")
        hashes = []
        for flags, mpirun in (((), ()), ((), (*MPIRUN, "-n", "2")), (("--lanes", "2"), ())):
            with self.subTest(flags=flags, mpirun=mpirun):
                out = self.directory / f"world{len(hashes)}"
                outcome = self.train(*self.CUT, *flags, out=out, mpirun=mpirun)
                self.assertEqual(outcome.code, 0, outcome.text)
                hashes.append(outcome.hash())
                self.assertIsNotNone(hashes[-1], outcome.text)
                lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
                losses = [line["train_loss"] for line in lines if line["type"] == "epoch"]
                self.assertEqual(len(losses), 4)
                self.assertLess(losses[-1], 0.7 * losses[0], losses)  # 3.00 to 1.40 here
        self.assertEqual(set(hashes), {hashes[0]})


class FashionMnist2nn(ProgramTest):
    """A whole training: minutes under a debugger, seconds without."""

    def test_reaches_its_accuracy_with_two_processes(self):
        self.config = str(SOURCE / "examples/fashion_mnist_mlp.toml")
        outcome = self.train(mpirun=(*MPIRUN, "-n", "2"), timeout=500)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertIsNotNone(outcome.hash(), outcome.text)
        accuracy = float(re.search(r"^final: test_accuracy=(\S+) ", outcome.stdout, re.M).group(1))
        self.assertGreaterEqual(accuracy, 0.888)


if __name__ == "__main__":
    sys.exit(program_support.main(Resnet20, FashionMnist2nn))
