#!/usr/bin/env python3
"""Runs that go on, and what is never resumed or overwritten. How to run it: program_support.py."""

import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import CONFIG, ResumeTest  # noqa: E402


class Resume(ResumeTest):
    def test_limit_of_supersteps_then_more(self):
        expected = self.train().hash()
        out = self.directory / "limited"
        first = self.train("--set", "train.max_supersteps=5", out=out)
        self.assertEqual(first.code, 0, first.text)
        second = self.train("--resume", "--lanes", "3", out=out)
        self.assertEqual(second.code, 0, second.text)
        self.assertEqual(second.hash(), expected)
        self.assertEqual(self.supersteps_of(out), list(range(1, 13)))

    def test_a_damaged_checkpoint_does_not_outlive_the_good_one(self):
        """Nobody reads all bytes of a checkpoint when others are deleted."""
        out = self.directory / "damaged"
        every = ("--set", "checkpoint.every_supersteps=4")
        self.assertEqual(self.train(*every, out=out).code, 0)
        newest = out / "checkpoints/step-00000012/parameters-00000.bin"
        content = bytearray(newest.read_bytes())
        content[0] ^= 1
        newest.write_bytes(content)
        short = ("--set", "train.max_supersteps=10", "--set", "checkpoint.keep=1", "--set", "checkpoint.keep_best=false")
        resumed = self.train("--resume", *every, *short, out=out)
        self.assertEqual(resumed.code, 0, resumed.text)
        self.assertRegex(resumed.text, r"skipped a checkpoint: .*step-00000012")
        names = sorted(path.name for path in (out / "checkpoints").iterdir())
        self.assertEqual(names, ["step-00000010", "step-00000012.damaged"])
        self.assertEqual(self.train("--resume", *every, out=out).hash(), self.train().hash())

    def test_another_length_under_a_schedule_is_warned_about(self):
        warning = r"warning: 'train\.epochs' was 2 and is now 4: the \"cosine\" schedule follows the new length"
        for kind in ("cosine", "constant"):
            with self.subTest(kind=kind):
                out = self.directory / kind
                schedule = ("--set", f"optimizer.schedule.kind={kind}")
                self.assertEqual(self.train(*schedule, "--set", "train.epochs=2", out=out).code, 0)
                resumed = self.train(*schedule, "--resume", "--set", "train.epochs=4", out=out)
                self.assertEqual(resumed.code, 0, resumed.text)
                whole = self.train(*schedule, "--set", "train.epochs=4")
                self.assertEqual(resumed.hash() == whole.hash(), kind == "constant")
                check = self.assertRegex if kind == "cosine" else self.assertNotRegex
                check(resumed.text, warning)

    def test_a_finished_run_says_its_result_again(self):
        out = self.directory / "done"
        first = self.train(out=out)
        again = self.train("--resume", out=out)
        self.assertEqual(again.code, 0, again.text)
        self.assertIsNotNone(first.hash())
        self.assertEqual(again.hash(), first.hash())

    def test_a_run_directory_that_exists_is_refused_with_the_command_that_resumes(self):
        out = self.directory / "run"
        self.assertEqual(self.train(out=out).code, 0)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        self.expect_failure(self.train(out=out), 2, r"superstep train .*config\.toml --out .* --resume")
        self.assertEqual(before, {path: path.read_bytes() for path in out.rglob("*") if path.is_file()})

    def test_another_configuration_is_refused(self):
        out = self.directory / "run"
        self.assertEqual(self.train(out=out).code, 0)
        self.expect_failure(self.train("--resume", "--set", "optimizer.learning_rate=0.5", out=out), 2,
                            r"'optimizer\.learning_rate' was 0\.01 and is now 0\.5")
        self.expect_failure(self.train("--resume", "--set", "train.precision=bf16", out=out), 2,
                            r"'train\.precision' was \"float32\" and is now \"bf16\"")

    def test_checkpoints_of_another_run_or_model_are_refused(self):
        out, other = self.directory / "run", self.directory / "other"
        self.assertEqual(self.train(out=out).code, 0)
        self.config = self.write("other.toml", CONFIG.replace("filters = 4", "filters = 5"))
        self.assertEqual(self.train(out=other).code, 0)
        shutil.rmtree(other / "checkpoints")
        shutil.copytree(out / "checkpoints", other / "checkpoints")
        self.expect_failure(self.train("--resume", out=other), 4, r"checkpoint of another run")
        provenance = json.loads((out / "provenance.json").read_text())
        theirs = json.loads((other / "provenance.json").read_text())
        theirs["run_id"] = provenance["run_id"]
        (other / "provenance.json").write_text(json.dumps(theirs))
        self.expect_failure(self.train("--resume", out=other), 4, r"conv1/weight")

    def test_two_programs_never_write_to_one_run(self):
        out = self.directory / "run"
        process = self.start(out, *self.LONG)
        self.wait_for_superstep(out, 5, process)
        outcome = self.train("--resume", *self.LONG, out=out)
        process.kill()
        process.communicate()
        self.expect_failure(outcome, 2, r"is in use")


if __name__ == "__main__":
    sys.exit(program_support.main(Resume))
