#!/usr/bin/env python3
"""Dedicated servers and policies of `superstep train`. How to run it: program_support.py."""

import json
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import MPIRUN, ResumeTest  # noqa: E402

CLOCK = ("server.delay.jitter_deviation=0.6", "server.delay.speed_deviation=0.3")
SSP = ("server.policy=ssp", "server.staleness=2", *CLOCK)
ASYNC = ("server.policy=async", "server.workers=5", "server.warm_start_supersteps=2", "optimizer.kind=adagrad",
         "optimizer.epsilon=1e-10", *CLOCK)
BACKUP = ("server.policy=backup", "server.backup_workers=2", *CLOCK)
# DiLoCo; a global norm is of all gradients, and local workers see their own.
LOCAL = ("server.policy=local", "server.workers=4", "server.local_steps=3", "optimizer.kind=adamw",
         "optimizer.clip_global_norm=0", "server.outer_kind=nesterov", "server.outer_learning_rate=0.7", *CLOCK)
DOWNPOUR = (*ASYNC, "server.n_push=2", "server.n_fetch=3")
POLICIES = (SSP, ASYNC, DOWNPOUR, BACKUP, LOCAL)


class Policies(ResumeTest):
    def run_with(self, values, *flags, out=None, **options):
        return self.train(*(word for value in values for word in ("--set", value)), *flags, out=out, **options)

    def expect_hash(self, expected, outcome):
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertIsNotNone(expected)
        self.assertEqual(outcome.hash(), expected)

    def test_dedicated_servers_and_staleness_zero_have_the_hash_of_bsp(self):
        expected = self.train().hash()
        for mpirun, flags in (([*MPIRUN, "-n", "2"], ("--servers", "1")), ([*MPIRUN, "-n", "4"], ("--servers", "3")),
                              ([*MPIRUN, "-n", "2"], ("--lanes", "2", "--servers", "2")),
                              ((), ("--lanes", "3", "--servers", "1"))):
            with self.subTest(mpirun=mpirun, flags=flags):
                self.expect_hash(expected, self.train(*flags, mpirun=mpirun))
                self.expect_hash(expected, self.train(*flags, "--set", "bsp.ranks_per_node=1", mpirun=mpirun))
                strict = ("server.policy=ssp", "server.staleness=0", *CLOCK)
                self.expect_hash(expected, self.run_with(strict, *flags, mpirun=mpirun))

    def test_one_hash_for_any_world_and_another_for_another_clock(self):
        bsp = self.train().hash()
        for values in POLICIES:
            expected = self.run_with(values).hash()
            self.assertNotEqual(expected, bsp)
            for mpirun, flags in (([*MPIRUN, "-n", "3"], ("--servers", "1")), ([*MPIRUN, "-n", "2"], ()),
                                  ((), ("--lanes", "4"))):
                with self.subTest(values=values, mpirun=mpirun, flags=flags):
                    self.expect_hash(expected, self.run_with(values, *flags, mpirun=mpirun))
            if values != LOCAL:
                other = self.run_with((*values, "server.delay.seed=2"))
                self.assertEqual(other.code, 0, other.text)
                self.assertNotEqual(other.hash(), expected)

    def test_a_killed_server_and_a_killed_worker_end_the_job_which_resumes(self):
        for values, victim in ((SSP, 2), (DOWNPOUR, 2), (BACKUP, 0), (LOCAL, 0)):  # rank 2 is the server
            with self.subTest(values=values, victim=victim):
                flags = tuple(word for value in values for word in ("--set", value))
                long = ("--set", "train.epochs=10", *flags)
                expected = self.train(*long).hash()
                out = self.directory / f"killed{self.count}"
                process = self.start(out, *long, "--servers", "1", mpirun=[*MPIRUN, "-n", "3"])
                self.wait_for_superstep(out, 10, process)
                os.kill(self.ranks_of(process)[victim], signal.SIGKILL)
                _, stderr = process.communicate(timeout=60)
                self.assertNotEqual(process.returncode, 0)
                self.assertRegex(stderr, r"rank \d")
                self.assertFalse((out / "summary.json").exists())
                again = self.train("--resume", *long, out=out, mpirun=[*MPIRUN, "-n", "2"])
                self.expect_hash(expected, again)
                self.assertEqual(self.supersteps_of(out), list(range(1, 41)))

    def test_what_happened_is_told_and_was_forecast(self):
        for values, name in ((SSP, "ssp"), (DOWNPOUR, "async"), (BACKUP, "backup"), (LOCAL, "local")):
            with self.subTest(policy=name):
                out = self.directory / name
                self.assertEqual(self.run_with(values, out=out).code, 0)
                lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
                steps = [line for line in lines if line["type"] == "superstep"]
                epochs = [line for line in lines if line["type"] == "epoch"]
                policy = json.loads((out / "summary.json").read_text())["policy"]
                self.assertEqual(policy["name"], name)
                self.assertEqual(policy["virtual_seconds"], steps[-1]["virtual_seconds"])
                self.assertEqual(policy["virtual_seconds"], epochs[-1]["virtual_seconds"])
                self.assertEqual(policy["shares"], policy["shares_dropped"] + sum(policy["by_staleness"]))
                self.assertEqual(policy["shares_dropped"], sum(line["shares_dropped"] for line in steps))
                self.assertEqual(len(policy["by_staleness"]) - 1, max(line["staleness_max"] for line in steps))
                parameters = json.loads((out / "summary.json").read_text())["model"]["parameters"]
                self.assertEqual(policy["pushed_bytes"], 4 * parameters * sum(line["pushes"] for line in steps))
                forecast = self.run_with(values, "--dry-run", out=self.directory / "dry")
                self.assertEqual(forecast.code, 0, forecast.text)
                self.assertIn(f"12 supersteps in {policy['virtual_seconds']:.6g} virtual seconds", forecast.stdout)

    def test_what_decides_the_bits_may_not_change_on_resume_and_servers_may(self):
        out = self.directory / "run"
        self.assertEqual(self.run_with((*SSP, "train.max_supersteps=5"), out=out).code, 0)
        self.expect_failure(self.run_with((*SSP[:1], "server.staleness=1", *CLOCK), "--resume", out=out), 2,
                            r"'server\.staleness' was 2 and is now 1")
        expected = self.run_with(SSP).hash()
        self.expect_hash(expected, self.run_with(SSP, "--resume", "--lanes", "3", "--servers", "2", out=out))


if __name__ == "__main__":
    sys.exit(program_support.main(Policies))
