#!/usr/bin/env python3
"""Runs `superstep launch` end to end: launch_test.py PROGRAM GROUP

A group is one of the classes below. Faults are real: processes are killed, signals are sent, and mpirun is
replaced by scripts that end as they are told. After every test nothing of the job may be left.
"""

import fcntl
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import termios
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import ENVIRONMENT, ResumeTest  # noqa: E402

MPIRUN_OPTIONS = ["--oversubscribe", "--bind-to", "none"]


def shared_memory_of(jobs):
    """Names in /dev/shm that belong to one of these Open MPI jobs; others may run beside the test."""
    return [name for name in os.listdir("/dev/shm") for job in jobs
            if name.startswith(f"superstep-{job}-") or (name.startswith("vader_segment.") and f".{job:x}." in name)]


def job_of(pid):
    """Open MPI's number of the job that a rank belongs to."""
    for variable in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        if variable.startswith(b"PMIX_NAMESPACE="):
            return int(variable.split(b"=")[1])
    raise AssertionError(f"process {pid} is no rank")


def descendants(pid):
    """Process ids below pid, with their command names."""
    listing = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True)
    parents = {}
    names = {}
    for line in listing.stdout.splitlines():
        child, parent, name = line.split(None, 2)
        parents[int(child)] = int(parent)
        names[int(child)] = name
    found = {}
    for child in parents:
        ancestor = child
        while ancestor in parents and ancestor != pid:
            ancestor = parents[ancestor]
        if ancestor == pid and child != pid:
            found[child] = names[child]
    return found


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class LaunchTest(ResumeTest):
    def setUp(self):
        super().setUp()
        self.jobs = set()
        # mpirun's session directory, so that what it leaves is seen.
        self.sessions = self.directory / "tmp"
        self.sessions.mkdir()
        self.environment = {**ENVIRONMENT, "TMPDIR": str(self.sessions)}

    def launch(self, out, *arguments, options=("-n", "2"), **keywords):
        command = [program_support.PROGRAM, "launch", *MPIRUN_OPTIONS, *options, "--", "train", self.config,
                   "--out", str(out), *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.directory, text=True, env=self.environment, **{**streams, **keywords})

    def fake(self, body):
        """An mpirun that does what `body`, a shell script, says."""
        path = self.directory / "fake_mpirun"
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)
        return ("--mpirun", str(path))

    def finish(self, process, code, timeout=60):
        stdout, stderr = process.communicate(timeout=timeout)
        self.assertEqual(process.returncode, code, stdout + stderr)
        return program_support.Outcome(subprocess.CompletedProcess([], process.returncode, stdout, stderr))

    def attempts(self, out):
        return [json.loads(line) for line in (out / "launch.jsonl").read_text().splitlines()]

    def ranks(self, process):
        pids = sorted(pid for pid, name in descendants(process.pid).items() if name == "superstep")
        self.jobs |= {job_of(pid) for pid in pids}
        return pids

    def wait_for_file(self, name):
        """Of a fake mpirun, whose directory is that of the test."""
        deadline = time.monotonic() + 20
        while not (self.directory / name).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertTrue((self.directory / name).exists())

    def expect_nothing_left(self, out=None):
        if out is not None:
            self.jobs |= {line["mpi_job"] for line in self.attempts(out)}
            self.assertTrue(self.jobs)
        self.assertEqual(shared_memory_of(self.jobs), [])
        self.assertEqual(sorted(path.name for path in self.sessions.iterdir()), [])

    def expect_all_gone(self, pids, seconds=5.0):
        deadline = time.monotonic() + seconds
        while [pid for pid in pids if is_alive(pid)] and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual([pid for pid in pids if is_alive(pid)], [])

    def expect_leftovers_removed(self, seconds=5.0):
        """By a process that outlives the launcher."""
        deadline = time.monotonic() + seconds
        left = [None]
        while left and time.monotonic() < deadline:
            left = [*shared_memory_of(self.jobs), *(path.name for path in self.sessions.iterdir())]
            time.sleep(0.02)
        self.assertEqual(left, [])


class Supervision(LaunchTest):
    """Real jobs."""

    def test_a_healthy_run_is_complete_with_the_bits_of_a_plain_one(self):
        expected = self.train().hash()
        out = self.directory / "healthy"
        outcome = self.finish(self.launch(out), 0)
        self.assertEqual(outcome.hash(), expected)
        self.assertIn("every rank is complete, with the same hash", outcome.text)
        self.assertEqual([line["decision"] for line in self.attempts(out)], ["done"])
        records = [json.loads(path.read_text()) for path in sorted((out / "launch").glob("rank-*.json"))]
        self.assertEqual([(record["rank"], record["parameters_hash"]) for record in records],
                         [(0, expected), (1, expected)])
        self.expect_nothing_left(out)

    def test_a_killed_rank_is_named_and_the_run_goes_on_with_the_same_bits(self):
        expected = self.long_hash()
        out = self.directory / "killed"
        process = self.launch(out, *self.LONG, options=("-n", "3"))
        self.wait_for_superstep(out, 50, process)
        os.kill(self.ranks(process)[1], signal.SIGKILL)
        outcome = self.finish(process, 0)
        self.assertEqual(outcome.hash(), expected)
        self.assertRegex(outcome.text, r"rank 1 on \S+ was ended by signal 9 \(Killed\)")
        self.assertRegex(outcome.text, r"restart 1 of at most 100 now, from step-\d{8}")
        first, second = self.attempts(out)
        self.assertEqual((first["mpirun_exit_code"], first["named_rank"], first["decision"]), (137, 1, "restart"))
        self.assertEqual((second["mpirun_exit_code"], second["decision"]), (0, "done"))
        self.assertEqual(self.supersteps_of(out), list(range(1, 321)))
        self.expect_nothing_left(out)

    def test_a_killed_mpirun_leaves_no_orphans_and_the_run_goes_on(self):
        expected = self.long_hash()
        out = self.directory / "headless"
        process = self.launch(out, *self.LONG)
        self.wait_for_superstep(out, 30, process)
        ranks = self.ranks(process)
        mpirun = [pid for pid, name in descendants(process.pid).items() if name in ("mpirun", "orterun")]
        self.assertEqual(len(mpirun), 1)
        os.kill(mpirun[0], signal.SIGKILL)
        outcome = self.finish(process, 0)
        self.assertEqual(outcome.hash(), expected)
        self.expect_all_gone(ranks, 0)
        self.expect_nothing_left(out)

    def test_a_job_whose_ranks_all_stand_still_is_restarted(self):
        expected = self.long_hash()
        out = self.directory / "still"
        process = self.launch(out, *self.LONG, options=("-n", "2", "--hang", "6"))
        self.wait_for_superstep(out, 30, process)
        ranks = self.ranks(process)
        for pid in ranks:
            os.kill(pid, signal.SIGSTOP)
        outcome = self.finish(process, 0)
        self.assertRegex(outcome.text, r"the job does not move: rank [01] on \S+: \w+ in superstep \d+")
        self.assertIn("restart 1 of at most 100", outcome.text)
        self.assertEqual(outcome.hash(), expected)
        self.expect_all_gone(ranks, 0)
        self.expect_nothing_left(out)

    def test_a_killed_launcher_takes_its_job_with_it(self):
        out = self.directory / "abandoned"
        process = self.launch(out, "--set", "train.epochs=100000")
        self.wait_for_superstep(out, 20, process)
        below = list(descendants(process.pid))
        self.assertEqual(len(self.ranks(process)), 2)
        process.kill()
        process.communicate()
        self.expect_all_gone(below)
        self.expect_leftovers_removed()

    def test_a_launcher_that_is_killed_after_its_mpirun_leaves_nothing(self):
        out = self.directory / "headless and abandoned"
        process = self.launch(out, "--set", "train.epochs=100000")
        self.wait_for_superstep(out, 20, process)
        below = list(descendants(process.pid))
        self.assertEqual(len(self.ranks(process)), 2)
        mpirun = [pid for pid, name in descendants(process.pid).items() if name in ("mpirun", "orterun")]
        process.send_signal(signal.SIGSTOP)  # it does not see its mpirun end
        os.kill(mpirun[0], signal.SIGKILL)
        process.kill()
        process.communicate()
        self.expect_all_gone(below, 20.0)
        self.expect_leftovers_removed(20.0)

    def test_signals_stop_with_a_checkpoint_at_one_superstep(self):
        expected = self.long_hash()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            with self.subTest(signal=number):
                out = self.directory / f"stopped{int(number)}"
                process = self.launch(out, *self.LONG)
                self.wait_for_superstep(out, 20, process)
                process.send_signal(number)
                outcome = self.finish(process, 75)
                self.assertIn("to continue:", outcome.text)
                done = max(self.supersteps_of(out))
                self.assertTrue((out / "checkpoints" / f"step-{done:08}").is_dir(), "the last superstep is lost")
                self.expect_nothing_left(out)
                resumed = self.finish(self.launch(out, *self.LONG, "--resume", options=("-n", "3")), 0)
                self.assertEqual(resumed.hash(), expected)

    def test_errors_that_would_come_back_are_not_tried_again(self):
        rows = [(("--set", "train.epochs=0"), 2, r"'train\.epochs' is out of range"),
                (("--set", "optimizer.kind=sgd", "--set", "optimizer.learning_rate=1e6", "--set",
                  "optimizer.clip_global_norm=0", "--set", "train.epochs=50"), 6, r"is no number")]
        for arguments, code, pattern in rows:
            with self.subTest(code=code):
                out = self.directory / f"wrong{code}"
                outcome = self.finish(self.launch(out, *arguments), code)
                self.assertRegex(outcome.text, pattern)
                self.assertNotIn("restart 1", outcome.text)
                self.expect_nothing_left(out if code == 6 else None)
        self.assertFalse((self.directory / "wrong2").exists())

    def test_a_wall_time_limit_is_no_fault(self):
        out = self.directory / "limited"
        outcome = self.finish(self.launch(out, "--set", "train.epochs=1000000", "--set",
                                          "train.wall_time_limit_seconds=1"), 75)
        self.assertNotIn("restart 1", outcome.text)


    def test_a_terminal_that_is_closed_stops_with_a_checkpoint(self):
        out = self.directory / "closed"
        terminal, end = os.openpty()
        process = self.launch(out, "--set", "train.epochs=100000", stdout=end, stderr=end, stdin=end,
                              start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(end)
        is_read = threading.Event()
        is_read.set()

        def read():
            while is_read.is_set():
                if select.select([terminal], [], [], 0.02)[0]:
                    os.read(terminal, 1 << 16)

        reader = threading.Thread(target=read)
        reader.start()
        self.wait_for_superstep(out, 20, process)
        is_read.clear()
        reader.join()
        os.close(terminal)  # SIGHUP, and from now on every write fails
        self.assertEqual(process.wait(timeout=60), 75)
        done = max(self.supersteps_of(out))
        self.assertTrue((out / "checkpoints" / f"step-{done:08}").is_dir(), "the last superstep is lost")
        self.assertTrue(self.attempts(out)[0]["stop_requested"])
        self.expect_nothing_left(out)


class Policies(LaunchTest):
    """Ends of mpirun that are hard to come by, from a script in its place."""

    def test_checkpoints_that_cannot_be_listed_count_as_none(self):
        out = self.directory / "unlisted"
        script = f"mkdir -p {out}\n: > {out}/checkpoints\necho attempt >> attempts\nexit 137\n"  # a file, no directory
        outcome = self.finish(self.launch(out, options=self.fake(script)), 137)
        self.assertIn("the checkpoints cannot be read", outcome.text)
        self.assertIn("2 restarts left no newer checkpoint", outcome.text)
        self.assertEqual(len((self.directory / "attempts").read_text().splitlines()), 3)

    def test_a_run_that_was_there_is_continued_on_demand_alone(self):
        out = self.directory / "there"
        self.train("--set", "train.max_supersteps=8", out=out)
        before = sorted(path.name for path in out.iterdir())
        options = self.fake("echo \"$@\" >> commands\nexit 137\n")
        outcome = self.finish(self.launch(out, options=options), 2)
        self.assertRegex(outcome.text, r"holds a run\. To continue it:\n  .* --resume")
        self.assertFalse((self.directory / "commands").exists())
        self.assertEqual(sorted(path.name for path in out.iterdir()), before)
        self.finish(self.launch(out, "--resume", options=options), 137)
        self.assertEqual(len(self.attempts(out)), 3)
        for command in (self.directory / "commands").read_text().splitlines():
            self.assertEqual(command.count("--resume"), 1)

    def test_a_hang_that_is_noticed_before_the_deadline_of_the_ranks_is_said(self):
        for arguments, is_said in (((), True), (("--set", "bsp.sync_deadline_seconds=3"), False)):
            with self.subTest(arguments):
                options = ("--hang", "5", *self.fake("exit 2\n"))
                text = self.finish(self.launch(self.directory / "hang", *arguments, options=options), 2).text
                self.assertEqual("--hang 5 is not above bsp.sync_deadline_seconds = 60" in text, is_said, text)

    def test_signals_that_were_ignored_stay_ignored(self):
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                script = f": > started{int(number)}\nsleep 1\nexit 2\n"
                process = self.launch(self.directory / "ignored", options=self.fake(script),
                                      preexec_fn=lambda number=number: signal.signal(number, signal.SIG_IGN))
                self.wait_for_file(f"started{int(number)}")
                process.send_signal(number)
                self.assertNotIn("came", self.finish(process, 2).text)

    def test_ends_of_children_are_seen_though_they_were_ignored(self):
        process = self.launch(self.directory / "deaf", options=self.fake("exit 2\n"),
                              preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        self.finish(process, 2)

    def test_a_standard_error_that_takes_nothing_changes_nothing(self):
        reader, writer = os.pipe()
        os.close(reader)
        with open("/dev/full", "wb") as full, open(writer, "wb") as unread:
            for name, stream in (("full", full), ("unread", unread)):
                with self.subTest(name):
                    commands = self.directory / name
                    script = f"echo attempt >> {commands}\necho mpirun has a line, too >&2\nexit 137\n"
                    process = self.launch(self.directory / "mute", options=self.fake(script), stderr=stream)
                    process.communicate(timeout=60)
                    self.assertEqual(process.returncode, 137)
                    self.assertEqual(len(commands.read_text().splitlines()), 3)

    def test_a_job_that_makes_no_progress_ends_after_two_restarts(self):
        out = self.directory / "poison"
        outcome = self.finish(self.launch(out, options=self.fake("exit 137\n")), 137)
        self.assertIn("restart 2 of at most 100", outcome.text)
        self.assertNotIn("restart 3", outcome.text)
        self.assertIn("2 restarts left no newer checkpoint", outcome.text)

    def test_restarts_may_be_forbidden(self):
        out = self.directory / "once"
        outcome = self.finish(self.launch(out, options=("--restarts", "0", *self.fake("exit 205\n"))), 205)
        self.assertIn("mpirun lost a node", outcome.text)

    def test_zero_without_a_record_of_every_rank_is_no_success(self):
        out = self.directory / "liar"
        outcome = self.finish(self.launch(out, options=self.fake("exit 0\n")), 1)
        self.assertIn("mpirun returned 0, but not every rank recorded that it is complete", outcome.text)

    def test_exit_codes_are_passed_on(self):
        for code in (2, 3, 4, 5, 6, 7, 110, 205):
            with self.subTest(code=code):
                out = self.directory / "codes"
                options = ("--restarts", "0", *self.fake(f"exit {code}\n"))
                self.assertIn(f"exit code {code}", self.finish(self.launch(out, options=options), code).text)

    def test_a_stop_that_comes_before_mpirun_can_pass_it_on_is_not_lost(self):
        script = "trap '' USR1\n: > started\nsleep 1.2\ntrap 'exit 75' USR1\nwhile :; do sleep 0.1; done\n"
        process = self.launch(self.directory / "early", options=("--grace", "20", *self.fake(script)))
        self.wait_for_file("started")
        process.send_signal(signal.SIGTERM)
        self.assertNotIn("did not end within", self.finish(process, 75).text)

    def test_an_mpirun_that_ignores_everything_is_killed_after_the_grace_time(self):
        out = self.directory / "deaf"
        script = "trap '' USR1 TERM INT HUP\necho $$ > pid\nwhile :; do sleep 0.1; done\n"
        process = self.launch(out, options=("--grace", "0.3", *self.fake(script)))
        self.wait_for_file("pid")
        process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        outcome = self.finish(process, 75)
        self.assertLess(time.monotonic() - begin, 15)
        self.assertIn("mpirun does not end: it is killed", outcome.text)
        self.expect_all_gone([int((self.directory / "pid").read_text())], 0)

    def test_orphans_are_killed(self):
        out = self.directory / "orphans"
        script = "setsid sh -c 'echo $$ > orphan; trap \"\" TERM; while :; do sleep 0.2; done' &\nsleep 0.3\nexit 2\n"
        outcome = self.finish(self.launch(out, options=self.fake(script)), 2)
        self.assertRegex(outcome.text, r"cleaned up: [1-9]\d* processes")
        self.expect_all_gone([int((self.directory / "orphan").read_text())], 0)

    def test_a_host_that_is_named_twice_is_left_out(self):
        out = self.directory / "hosts"
        script = ("echo \"$@\" >> commands\n"
                  "echo 'mpirun noticed that process rank 1 with PID 0 on node b exited on signal 9 (Killed).' >&2\n"
                  "exit 137\n")
        options = ("-n", "4", "--host", "a:2,b:2", *self.fake(script))
        outcome = self.finish(self.launch(out, options=options), 137)
        self.assertIn("b was named twice and is left out", outcome.text)
        commands = (self.directory / "commands").read_text().splitlines()
        self.assertEqual(len(commands), 3)
        for command in commands[:2]:
            self.assertIn("-n 4 --host a:2,b:2", command)
        self.assertIn("-n 2 --host a:2 ", commands[2])

    def test_a_host_is_left_out_by_the_name_that_the_ranks_give_it(self):
        lines = {"late": "[rank 0] [World] waited 2 s: ranks {1} did not arrive:\n  rank 1: not started; host b",
                 "memory": "[rank 1] [ShardGuard] memory of b: rank 1 found parameters changed since update 3, where"}
        for name, line in lines.items():
            for hosts, left_out in (("a.example:2,b.example:2", True), ("a:2,c:2", False)):
                with self.subTest(name, hosts=hosts):
                    commands = self.directory / f"{name}-{left_out}"
                    script = f"echo \"$@\" >> {commands}\nprintf '%s\\n' '{line}' >&2\nexit 75\n"
                    options = ("-n", "4", "--host", hosts, *self.fake(script))
                    text = self.finish(self.launch(self.directory / "named", options=options), 75).text
                    self.assertEqual("b.example was named twice and is left out" in text, left_out)
                    self.assertEqual("b was named, but is none of the hosts" in text, not left_out)
                    words = "-n 2 --host a.example:2 " if left_out else f"-n 4 --host {hosts} "
                    self.assertIn(words, commands.read_text().splitlines()[2])

    def test_a_lost_host_that_cannot_be_reached_again_is_left_out(self):
        out = self.directory / "unreachable"
        script = ("echo \"$@\" >> commands\n"
                  "if [ $(wc -l < commands) = 1 ]; then\n"
                  "  echo 'ORTE has lost communication with a remote daemon.' >&2\n"
                  "  echo '  Remote daemon: [[31222,0],1] on node b' >&2\n"
                  "  exit 205\n"
                  "fi\n"
                  "echo 'ssh: connect to host b port 22: No route to host' >&2\n"
                  "exit 1\n")
        options = ("-n", "4", "--host", "a:2,b:2", *self.fake(script))
        outcome = self.finish(self.launch(out, options=options), 1)
        self.assertIn("b cannot be reached: No route to host", outcome.text)
        self.assertIn("b was named twice and is left out", outcome.text)
        commands = (self.directory / "commands").read_text().splitlines()
        self.assertIn("-n 2 --host a:2 ", commands[2])

    def test_an_mpirun_that_does_not_exist_is_named(self):
        out = self.directory / "none"
        outcome = self.finish(self.launch(out, options=("--mpirun", "/nonexistent/mpirun")), 2)
        self.assertIn("cannot start \"/nonexistent/mpirun\"", outcome.text)

    def test_mpirun_is_told_what_a_supervised_job_needs(self):
        for options, seconds in (((), 5), (("--mca", "oob_tcp_keepalive_time", "7"), 7)):
            with self.subTest(seconds=seconds):
                script = self.fake("echo \"$@\" > command\nexit 2\n")
                self.finish(self.launch(self.directory / "parameters", options=(*options, *script)), 2)
                command = (self.directory / "command").read_text()
                for words in ("oob_tcp_keepalive_intvl 2", "oob_tcp_keepalive_probes 3", "orte_startup_timeout 120",
                              "orte_enable_recovery 0", "orte_abort_on_non_zero_status 1",
                              f"oob_tcp_keepalive_time {seconds}"):
                    self.assertIn(f"--mca {words} ", command)
                self.assertEqual(command.count("oob_tcp_keepalive_time"), 1)


class Usage(LaunchTest):
    def test_command_lines_that_cannot_be(self):
        rows = [(["launch", "-n", "2"], r"needs \"--\" and a train command"),
                (["launch", "--", "evaluate", "runs/a"], r"supervises train: got \"evaluate\""),
                (["launch", "--restarts", "-1", "--", "train", "x"], r"--restarts"),
                (["launch", "--enable-recovery", "--", "train", "x"], r"a dead rank goes unnoticed"),
                (["launch", "--", "train", "x", "--dry-run"], r"--dry-run trains nothing"),
                (["launch", "--", "train", "x", "--epochs"], r"--epochs")]
        for words, pattern in rows:
            with self.subTest(words=words):
                self.expect_failure(self.run_program(*words), 2, pattern)

    def test_help_is_printed_without_a_command(self):
        outcome = self.run_program("launch", "--help")
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertIn("--grace", outcome.stdout)

    def test_it_is_not_run_under_mpirun(self):
        outcome = self.run_program("launch", "--", "train", self.config, mpirun=["mpirun", "-n", "1"])
        self.expect_failure(outcome, 2, r"it starts mpirun itself")


if __name__ == "__main__":
    sys.exit(program_support.main(Supervision, Policies, Usage))
