#!/usr/bin/env python3
"""What ends a training from outside: killed and stopped ranks, disks, signals. How to run it: program_support.py."""

import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import ENVIRONMENT, MPIRUN, ResumeTest, SOURCE  # noqa: E402


class ResumeAfterFaults(ResumeTest):
    def test_after_kill_9_of_one_rank_on_other_rank_counts(self):
        expected = self.long_hash()
        self.assertIsNotNone(expected)
        out = self.directory / "killed"
        process = self.start(out, *self.LONG, mpirun=[*MPIRUN, "-n", "3"])
        self.wait_for_superstep(out, 50, process)
        os.kill(self.ranks_of(process)[1], signal.SIGKILL)
        process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertFalse((out / "summary.json").exists())
        outcome = self.train("--resume", *self.LONG, out=out, mpirun=[*MPIRUN, "-n", "2"])
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertEqual(outcome.hash(), expected)
        self.assertEqual(self.supersteps_of(out), list(range(1, 321)))
        summary = json.loads((out / "summary.json").read_text())
        # Of 48 the writing may have been under way; of 44 it was over before that of 48 began.
        self.assertGreaterEqual(summary["progress"]["resumed_from_superstep"], 44)
        starts = json.loads((out / "provenance.json").read_text())["starts"]
        self.assertEqual([start["ranks"] for start in starts], [3, 2])

    def test_a_damaged_checkpoint_is_skipped_for_the_one_before(self):
        expected = self.train().hash()
        out = self.directory / "run"
        self.assertEqual(self.train(out=out).code, 0)
        newest = max((out / "checkpoints").glob("step-*"))
        file = next(newest.glob("parameters*"))
        content = bytearray(file.read_bytes())
        content[100] ^= 1
        file.write_bytes(content)
        outcome = self.train("--resume", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertRegex(outcome.text, r"skipped a checkpoint")
        self.assertEqual(outcome.hash(), expected)


class Failures(ResumeTest):
    """What ends a training from outside is named once, with the way on."""

    def test_a_checkpoint_that_cannot_be_written_names_the_newest_and_how_to_go_on(self):
        out = self.directory / "run"
        process = subprocess.Popen([program_support.PROGRAM, "train", self.config, "--out", str(out), "--set", "data.num_train=40000",
                                    "--set", "train.log_every_supersteps=1000000", "--set", "train.epochs=50"],
                                   env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   restore_signals=False)  # SIGXFSZ stays ignored
        while process.poll() is None and not list(out.glob("checkpoints/step-0000004?")):
            time.sleep(0.01)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, stdout + stderr)
        self.assertRegex(stderr, r"File too large[\s\S]*the newest checkpoint is .*/step-\d{8}\nto continue:\n"
                                 r"  \S*superstep train .* --resume")
        self.assertLessEqual(stderr.count("[write_checkpoint]"), 1, stderr)

    def test_a_rank_that_does_not_arrive_names_the_key_and_the_way_on(self):
        out = self.directory / "run"
        process = self.start(out, *self.LONG, "--set", "bsp.sync_deadline_seconds=3", mpirun=[*MPIRUN, "-n", "2"])
        self.wait_for_superstep(out, 20, process)
        os.kill(self.ranks_of(process)[1], signal.SIGSTOP)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, stdout + stderr)
        self.assertRegex(stderr, r"ranks \{1\} (did not arrive|arrived, but do not run):[\s\S]*raise bsp\.sync_deadline_seconds \(now 3\)\n"
                                 r"the newest checkpoint is .*\nto continue:\n  mpirun .*-n 2 \S*superstep train .*--resume")
        self.assertNotRegex(stderr, re.escape(str(SOURCE)) + r"/(bsp|paramserver|worker|cluster)/")

    def test_a_run_directory_that_was_removed_ends_the_run(self):
        for mpirun in ((), [*MPIRUN, "-n", "2"]):
            with self.subTest(mpirun=mpirun):
                out = self.directory / f"run{len(mpirun)}"
                process = self.start(out, *self.LONG, mpirun=mpirun)
                self.wait_for_superstep(out, 20, process)
                out.rename(self.directory / f"elsewhere{len(mpirun)}")
                stdout, stderr = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 1, stdout + stderr)
                self.assertRegex(stderr, r"run%d: no such directory: it was removed or renamed|"
                                 r"No such file or directory" % len(mpirun))
                self.assertNotIn("final:", stdout)
                self.assertFalse(out.exists())


class Signals(ResumeTest):
    def test_signals_end_with_a_checkpoint_and_the_command_that_continues(self):
        expected = self.long_hash()
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            with self.subTest(signal=number):
                out = self.directory / f"stopped{int(number)}"
                process = self.start(out, *self.LONG, "--lanes", "2")
                self.wait_for_superstep(out, 20, process)
                process.send_signal(number)
                stdout, stderr = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 75, stdout + stderr)
                self.assertRegex(stderr, r"stopping after this superstep with a checkpoint; "
                                         r"the newest one on disk is .*step-\d{8}\nto continue:\n  \S*superstep train ")
                command = re.search(r"^  (\S*superstep train .*--resume)$", stdout, re.M)
                self.assertIsNotNone(command, stdout)
                self.assertNotIn("final:", stdout)
                self.assertEqual(json.loads((out / "summary.json").read_text())["exit_reason"], "signal")
                outcome = self.paste(command.group(1))
                self.assertEqual(outcome.code, 0, outcome.text)
                self.assertEqual(outcome.hash(), expected)

    def test_sigusr1_to_mpirun_reaches_every_rank(self):
        out = self.directory / "stopped"
        ranks = os.cpu_count() + 1 if os.cpu_count() < 8 else 2
        process = self.start(out, *self.LONG, mpirun=[*MPIRUN, "-n", str(ranks)])
        self.wait_for_superstep(out, 20, process)
        process.send_signal(signal.SIGUSR1)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, stdout + stderr)
        command = re.search(r"^  (mpirun .*-n %d \S*superstep train .*--resume)$" % ranks, stdout, re.M)
        self.assertIsNotNone(command, stdout)
        # Without what the environment of the tests allows: the command itself has to.
        plain = {name: value for name, value in ENVIRONMENT.items() if name != "OMPI_MCA_rmaps_base_oversubscribe"}
        outcome = self.paste(command.group(1), env=plain)
        self.assertEqual(outcome.code, 0, outcome.text)

    def test_sigint_and_sigterm_to_mpirun_name_the_checkpoint_and_the_command_that_continues(self):
        """mpirun leaves its ranks about a second and returns 1: whether the last checkpoint fits or not, the run goes
        on. What the ranks print in that second reaches mpirun's pipe only sometimes: here they write to files."""
        endless = ("--set", "train.epochs=1000000")
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                out = self.directory / f"mpirun{int(number)}"
                log = f'exec "$@" >{out}-rank$OMPI_COMM_WORLD_RANK.log 2>&1'
                process = self.start(out, *endless, mpirun=[*MPIRUN, "-n", "2", "sh", "-c", log, "sh"])
                self.wait_for_superstep(out, 20, process)
                process.send_signal(number)
                process.communicate(timeout=60)
                text = pathlib.Path(f"{out}-rank0.log").read_text()
                self.assertEqual(process.returncode, 1, text[-3000:])
                found = re.search(r"stopping after this superstep with a checkpoint; the newest one on disk is (\S*)\n"
                                  r"to continue:\n  (mpirun .*-n 2 \S*superstep train .*--resume)\n", text)
                self.assertIsNotNone(found, text[-3000:])
                newest = max((out / "checkpoints").glob("step-????????"))
                self.assertGreaterEqual(newest.name, pathlib.Path(found.group(1)).name)
                limit = ("--set", f"train.max_supersteps={int(newest.name[5:]) + 20}")
                outcome = self.paste(" ".join((found.group(2), *limit)))
                self.assertEqual(outcome.code, 0, outcome.text)
                self.assertEqual(outcome.hash(), self.train(*endless, *limit).hash())

    def test_a_signal_during_setup_stops_in_order(self):
        out = self.directory / "early"
        process = self.start(out, "--set", "data.num_train=5000000")
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, stdout + stderr)
        self.assertRegex(stderr, r"stopped by a signal before the first superstep: nothing was written")
        self.assertFalse(out.exists())

    def test_a_signal_that_was_inherited_as_ignored_stays_so(self):
        out = self.directory / "background"
        process = subprocess.Popen([program_support.PROGRAM, "train", self.config, "--out", str(out), *self.LONG], env=ENVIRONMENT,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        self.wait_for_superstep(out, 20, process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, stdout + stderr)
        self.assertIn("final:", stdout)

    def test_wall_time_limit(self):
        out = self.directory / "limited"
        outcome = self.train("--set", "train.epochs=1000000", "--set", "train.wall_time_limit_seconds=1",
                             "--set", "train.log_every_supersteps=1000", out=out)
        self.expect_failure(outcome, 75, r"stopped \(wall_time\) after superstep \d+")


if __name__ == "__main__":
    sys.exit(program_support.main(ResumeAfterFaults, Failures, Signals))
