#!/usr/bin/env python3
"""Runs whose directories lose checkpoints that partners hold. How to run it: program_support.py."""

import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import MPIRUN, ResumeTest  # noqa: E402


class PartnerCopies(ResumeTest):
    def setUp(self):
        super().setUp()
        self.copies = self.directory / "copies"
        self.partner = ("--set", f"checkpoint.partner_directory={self.copies}")

    def stopped_run(self, *arguments, **options):
        """At superstep 10, with checkpoints of 0, 4, 8 and 10."""
        out = self.directory / "stopped"
        outcome = self.train(*self.partner, "--set", "train.max_supersteps=10", *arguments, out=out, **options)
        self.assertEqual(outcome.code, 0, outcome.text)
        return out

    def expect_resumed(self, outcome, *patterns):
        self.assertEqual(outcome.code, 0, outcome.text)
        for pattern in patterns:
            self.assertRegex(outcome.text, pattern)
        self.assertEqual(outcome.hash(), self.train().hash())

    def test_all_checkpoints_are_lost(self):
        out = self.stopped_run("--set", "bsp.ranks_per_node=1", mpirun=[*MPIRUN, "-n", "3"])
        shutil.rmtree(out / "checkpoints")
        resumed = self.train("--resume", *self.partner, "--lanes", "2", out=out)
        self.expect_resumed(resumed, r"superstep: restored .*step-00000010 with (\d+) of \1 blocks from partner copies on "
                                     r"\S+ \(it was missing\)", r"continuing from .*step-00000010")
        self.assertEqual(self.supersteps_of(out), list(range(1, 13)))

    def test_a_damaged_file_is_repaired_with_the_same_bytes(self):
        out = self.stopped_run("--lanes", "3")
        step = out / "checkpoints" / "step-00000010"
        before = {path.name: path.read_bytes() for path in step.iterdir()}
        damaged = bytearray(before["parameters-00000.bin"])
        damaged[100] ^= 1
        (step / "parameters-00000.bin").write_bytes(damaged)
        resumed = self.train("--resume", *self.partner, mpirun=[*MPIRUN, "-n", "2"], out=out)
        self.expect_resumed(resumed, r"restored .*step-00000010 .*parameters-00000\.bin, byte 0: block is damaged")
        self.assertEqual({path.name: path.read_bytes() for path in step.iterdir()}, before)

    def test_what_no_copy_has_is_named_and_an_older_checkpoint_is_used(self):
        out = self.stopped_run("--lanes", "2")
        for path in [*self.copies.glob("*/*/step-00000010"), *out.glob("checkpoints/step-00000010")]:
            (path / "parameters-00000.bin").unlink(missing_ok=True)
        resumed = self.train("--resume", *self.partner, out=out)
        self.expect_resumed(resumed, r"skipped a checkpoint: .*step-00000010/parameters-00000\.bin",
                            r"cannot restore .*step-00000010 from partner copies: missing 1 of 1 blocks of parameters",
                            r"continuing from .*step-00000008")

    def test_all_of_it_lost_is_an_error(self):
        out = self.stopped_run()
        for path in [*self.copies.glob("*/*/step-*"), *out.glob("checkpoints/step-*")]:
            (path / "parameters-00000.bin").unlink(missing_ok=True)
        resumed = self.train("--resume", *self.partner, out=out)
        self.expect_failure(resumed, 4, r"cannot restore .*step-00000010(.*\n)*.*every checkpoint here is damaged")

    def test_a_directory_that_cannot_be_written_is_refused_at_once(self):
        blocked = self.write("blocked", "a file")
        out = self.directory / "run"
        outcome = self.train("--set", f"checkpoint.partner_directory={blocked}", out=out)
        self.expect_failure(outcome, 1, rf"step-00000000: not written: rank 0: partner copy on host \S+: {blocked}: cannot")
        self.assertFalse((out / "metrics.jsonl").exists() and self.supersteps_of(out))

    def test_federated_runs_do_not_take_the_key(self):
        outcome = self.run_program("federated", self.config, "--out", self.directory / "f", "--set", "federated.rounds=1",
                                   *self.partner)
        self.expect_failure(outcome, 2, r"'checkpoint\.partner_directory' = .* has no effect")

    def test_both_copies_are_in_the_memory_that_is_stated(self):
        memory = {}
        for asynchronous in ("false", "true"):
            out = self.directory / asynchronous
            outcome = self.train(*self.partner, "--set", f"checkpoint.asynchronous={asynchronous}", out=out)
            self.assertEqual(outcome.code, 0, outcome.text)
            memory[asynchronous] = json.loads((out / "summary.json").read_text())["memory_bytes"]
        state = memory["true"]["parameters_per_node"] + memory["true"]["optimizer_state_per_world"]
        self.assertEqual(memory["false"]["checkpoint_copy_per_world"], state)
        self.assertEqual(memory["true"]["checkpoint_copy_per_world"], 2 * state)


if __name__ == "__main__":
    sys.exit(program_support.main(PartnerCopies))
