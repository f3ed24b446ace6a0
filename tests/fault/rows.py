"""The rows of the fault matrix: each is a class whose trial(seed) injects one fault and raises Fault when the
promise is broken. What a trial returns are figures, such as seconds, that the table sums up."""

import itertools
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

from job import Job, STEPS_PER_EPOCH, descendants, expect, hash_in

EXIT_RESUMABLE = 75

DUTY_CYCLE = """
import os, signal, sys, time
pid = int(sys.argv[1])
while True:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.001)
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.001)
"""


class Row:
    name = ""
    fault = ""     # what is done
    promise = ""   # what must hold in every trial
    trials = 0     # that the row asks for
    quick = 0      # of them in --quick
    seconds = 0.0  # about, per trial

    def __init__(self, program, directory):
        self.program = program
        self.directory = directory
        self.references = {}

    def total(self):
        return self.trials

    def is_possible(self):
        """Whether this machine allows the fault."""
        return True

    def job(self, name, **options):
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)
        return Job(self.program, path, **options)

    def reference(self, epochs=30):
        """The hash of an undisturbed run on one rank."""
        if epochs not in self.references:
            job = self.job("reference", epochs=epochs, every=1000)
            job.plain(1)
            expect(job.wait() == 0, "the reference run failed:\n" + job.text())
            self.references[epochs] = hash_in(job.text())
        return self.references[epochs]

    def trial(self, seed):
        raise NotImplementedError


class RandomKill(Row):
    name = "F1"
    fault = "SIGKILL of a random rank at a random moment; 4 ranks, with node boundaries none, 1 or 2 ranks apart"
    promise = "same bits as an undisturbed run; rank named; no orphans, no leftovers; restart at once"
    trials = 300
    quick = 2
    seconds = 4.0
    epochs = 30

    def trial(self, seed):
        chance = random.Random(seed)
        expected = self.reference(self.epochs)
        per_node = chance.choice((0, 1, 2))
        job = self.job("trial", epochs=self.epochs, extra=("--set", f"bsp.ranks_per_node={per_node}"))
        job.launch(4)
        expect(job.wait_for_superstep(chance.randrange(0, self.epochs * STEPS_PER_EPOCH - 20)), job.text())
        time.sleep(chance.uniform(0, 0.02))
        ranks = job.ranks()
        victim = chance.randrange(4)
        below = descendants(job.process.pid)
        expect(victim in ranks, "the job ended before the fault")
        os.kill(ranks[victim], signal.SIGKILL)
        killed = time.monotonic()
        before = job.last_superstep()
        while job.starts() < 2 or job.last_superstep() < 0:
            expect(time.monotonic() - killed < 30, "no restart within 30 s:\n" + job.text())
            expect(job.process.poll() is None, "gave up:\n" + job.text())
            time.sleep(0.005)
        resumed = job.last_superstep()
        while job.last_superstep() <= resumed and job.process.poll() is None:
            time.sleep(0.005)
        recovery = time.monotonic() - killed
        expect(job.wait() == 0, job.text())
        job.expect_result(expected)
        job.expect_clean(below)
        first = job.attempts()[0]
        expect(first["named_rank"] == victim, f"named rank {first['named_rank']}, killed {victim}")
        lost = before - first["checkpoint_superstep"]
        expect(lost <= 8, f"{lost} supersteps were lost")
        return {"seconds to the first new superstep": recovery, "supersteps lost": max(lost, 0)}


class DoubleKill(Row):
    name = "F1b"
    fault = "as F1 with 3 ranks: killed again during the restart; two ranks or all at once"
    promise = "same bits as an undisturbed run; no orphans, no leftovers"
    trials = 100
    quick = 0
    seconds = 6.0

    def trial(self, seed):
        chance = random.Random(seed)
        expected = self.reference()
        job = self.job("trial")
        job.launch(3)
        expect(job.wait_for_superstep(chance.randrange(0, 80)), job.text())
        ranks = job.ranks()
        count = chance.choice((1, 1, 2, 3))
        below = descendants(job.process.pid)
        for rank in chance.sample(sorted(ranks), min(count, len(ranks))):
            os.kill(ranks[rank], signal.SIGKILL)
        if count == 1:
            begin = time.monotonic()
            while set(job.ranks().values()) & set(ranks.values()) or not job.ranks():
                expect(time.monotonic() - begin < 30, "no restart within 30 s:\n" + job.text())
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.8))
            again = job.ranks()
            if again:
                os.kill(again[chance.choice(sorted(again))], signal.SIGKILL)
        expect(job.wait() == 0, job.text())
        job.expect_result(expected)
        job.expect_clean(below)
        return {"restarts": len(job.attempts()) - 1}


# Calls that change or promise something on the disk while a checkpoint is written.
CALLS = ("openat", "mkdir", "pwrite64", "write", "fsync", "fallocate", "rename", "close", "unlinkat", "rmdir")


class CheckpointCalls(Row):
    """Shared by F2 and F3: one rank under strace, a fault at the n-th call of a kind on checkpoint files."""
    epochs = 3
    every = 4

    def is_possible(self):
        return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0

    def cases(self):
        """(system call, n) for all calls on checkpoint files of an undisturbed run, counted once."""
        if not hasattr(self, "counted"):
            job = self.traced("count", ["-e", f"trace={','.join(CALLS)}"])
            expect(job.wait() == 0, job.text())
            counts = {}
            for line in (job.directory / "trace.txt").read_text(errors="replace").splitlines():
                found = re.match(r"\d+\s+(\w+)\(", line)
                if found:
                    counts[found.group(1)] = counts.get(found.group(1), 0) + 1
            self.counted = [(call, n + 1) for call in CALLS for n in range(counts.get(call, 0))]
        return self.counted

    def checkpoint_paths(self, job):
        root = job.out / "checkpoints"
        names = ("MANIFEST", "parameters-00000.bin", "first_moment-00000.bin", "second_moment-00000.bin",
                 "mean-00000.bin", "variance-00000.bin", "m-00000.bin", "v-00000.bin")
        paths = [job.out, root]
        for step in range(0, self.epochs * STEPS_PER_EPOCH + 1, self.every):
            for suffix in ("", ".tmp"):
                directory = root / f"step-{step:08}{suffix}"
                paths += [directory, *(directory / name for name in names)]
        return paths

    def traced(self, name, strace):
        job = self.job(name, epochs=self.epochs, every=self.every)
        paths = [word for path in self.checkpoint_paths(job) for word in ("-P", str(path))]
        job.start(["strace", "-f", "-qq", "-o", str(job.directory / "trace.txt"), *paths, *strace,
                   self.program, *job.train_words()])
        return job

    def expect_resumes(self, job):
        words = ["--resume"] if (job.out / "config.toml").exists() else []
        job.log.unlink()
        job.plain(1, *words)
        expect(job.wait() == 0, "cannot go on:\n" + job.text())
        job.expect_result(self.reference(self.epochs))


class KillAtCall(CheckpointCalls):
    name = "F2"
    fault = "SIGKILL at the entry of each system call on the files of checkpoints (" + ", ".join(CALLS) + ")"
    promise = "the next start goes on from a verified checkpoint to the same bits"
    quick = 3
    seconds = 0.8

    def total(self):
        return len(self.cases())

    def trial(self, seed):
        # A fixed order that reaches every kind of call early.
        cases = sorted(self.cases(), key=lambda case: (case[1], case[0]))
        call, n = cases[seed % len(cases)]
        job = self.traced("trial", ["-e", f"trace={','.join(CALLS)}", "-e", f"inject={call}:signal=KILL:when={n}"])
        expect(job.wait() != 0, f"{call} {n}: was not killed")
        self.expect_resumes(job)
        return {}


class ErrorAtCall(CheckpointCalls):
    name = "F3"
    fault = "each system call on the files of checkpoints fails with ENOSPC, EIO, EDQUOT, EACCES, EROFS or EINTR"
    promise = "an error that names the path, or no harm; the next start goes on to the same bits"
    quick = 3
    seconds = 0.8
    errors = ("ENOSPC", "EIO", "EDQUOT", "EACCES", "EROFS", "EINTR")

    def total(self):
        return len(self.cases()) * len(self.errors)

    def trial(self, seed):
        cases = sorted(itertools.product(self.cases(), self.errors), key=lambda case: (case[0][1], case[0][0], case[1]))
        (call, n), error = cases[seed % len(cases)]
        job = self.traced("trial", ["-e", f"trace={','.join(CALLS)}", "-e", f"inject={call}:error={error}:when={n}"])
        code = job.wait()
        text = job.text()
        what = f"{call} {n} {error}: exit code {code}\n{text}"
        expect(code in (0, 1, 2, 3, 4), what)
        if code == 0:
            expect(hash_in(text) == self.reference(self.epochs), "another result: " + what)
            return {"no harm": 1}
        expect(str(job.out) in text, "no path in the message: " + what)
        self.expect_resumes(job)
        return {"stopped with a message": 1}


class LyingDisk(CheckpointCalls):
    name = "F3b"
    fault = "a write of a checkpoint file is reported as done and is not (strace retval)"
    promise = "found by reading again before an older checkpoint goes; the next start goes on to the same bits"
    quick = 1
    seconds = 0.8

    def cases(self):
        return [case for case in super().cases() if case[0] == "pwrite64"]

    def total(self):
        return len(self.cases())

    def trial(self, seed):
        _, n = self.cases()[seed % len(self.cases())]
        # The whole length, as far as the program can know: short counts are written again.
        job = self.traced("trial", ["-e", f"trace={','.join(CALLS)}", "-e",
                                    f"inject=pwrite64:retval={self.length_of(n)}:when={n}"])
        code = job.wait()
        expect(code == 4 and "read back other bytes" in job.text(), f"exit code {code}\n{job.text()}")
        self.expect_resumes(job)
        return {}

    def length_of(self, n):
        """What the n-th pwrite64 of an undisturbed run returns."""
        if not hasattr(self, "lengths"):
            trace = (self.directory / "count" / "trace.txt").read_text(errors="replace")
            self.lengths = [int(length) for length in re.findall(r"pwrite64\(.* = (\d+)$", trace, re.M)]
        return self.lengths[n - 1]


class DamagedCheckpoint(Row):
    name = "F4"
    fault = "every truncation and every single-bit flip of a checkpoint of 64 KiB (manifest and data)"
    promise = "found, with the file named; no crash; at most 64 MiB of memory"
    trials = 1
    seconds = 120.0

    def trial(self, seed):
        build = pathlib.Path(self.program).parent
        done = subprocess.run([build / "tests/paramserver/paramserver_damage_tests"], capture_output=True, text=True,
                              check=False)
        figures = dict(re.findall(r"(truncations|flips) found: (\d+) of \d+", done.stdout))
        expect(done.returncode == 0 and len(figures) == 2, done.stdout[-3000:] + done.stderr[-1000:])
        return {f"{name} found (all)": int(count) for name, count in figures.items()}


class StoppedRank(Row):
    name = "F6"
    fault = "SIGSTOP of a random rank of 3 at a random moment; deadline 2 s"
    promise = "rank named with its phase within the deadline + 2 s; the job goes on by itself to the same bits"
    trials = 50
    quick = 1
    seconds = 9.0
    deadline = 2.0

    def trial(self, seed):
        chance = random.Random(seed)
        expected = self.reference(60)
        job = self.job("trial", epochs=60, extra=("--set", f"bsp.sync_deadline_seconds={self.deadline}"))
        job.launch(3)
        expect(job.wait_for_superstep(chance.randrange(0, 160)), job.text())
        time.sleep(chance.uniform(0, 0.02))
        ranks = job.ranks()
        victim = chance.randrange(3)
        expect(victim in ranks, "the job ended before the fault")
        os.kill(ranks[victim], signal.SIGSTOP)
        begin = time.monotonic()
        pattern = re.compile(r"ranks \{(\d+)\} did not arrive:\n\s+rank (\d+): .*(phase \"[^\"]+\"|waits in)")
        while not pattern.search(job.text()):
            expect(time.monotonic() - begin < self.deadline + 2, "not named in time:\n" + job.text())
            time.sleep(0.01)
        took = time.monotonic() - begin
        found = pattern.search(job.text())
        expect(int(found.group(1)) == victim == int(found.group(2)), f"stopped {victim}:\n{job.text()}")
        expect(job.wait() == 0, job.text())
        job.expect_result(expected)
        job.expect_clean(list(ranks.values()))
        return {"seconds until named": took}


class FalseAlarms(Row):
    name = "F6b"
    fault = "none: 10,000 healthy supersteps of 3 ranks on 2 cores with a deadline of 2 s"
    promise = "nobody is named"
    trials = 1
    seconds = 60.0

    def trial(self, seed):
        job = self.job("trial", epochs=2500, every=1000,
                       extra=("--set", "bsp.sync_deadline_seconds=2", "--set", "train.log_every_supersteps=1000"))
        job.launch(3)
        expect(job.wait(600) == 0, job.text())
        expect("did not arrive" not in job.text(), job.text())
        return {"supersteps": job.supersteps}


class SlowRank(Row):
    name = "F7"
    fault = "a random rank of 2 gets half of its time (SIGSTOP and SIGCONT every millisecond)"
    promise = "named as slow within 20 supersteps"
    trials = 100
    seconds = 4.0
    # Supersteps of several milliseconds, so that every one is slowed.
    shape = ("--set", "data.num_train=4000", "--set", "train.global_batch=400", "--set", "data.sample_shape=[3,32,32]",
             "--set", "train.prefetch_depth=8")

    def trial(self, seed):
        chance = random.Random(seed)
        job = self.job("trial", epochs=2000, every=100000, extra=self.shape)
        job.plain(2)
        expect(job.wait_for_superstep(chance.randrange(10, 60)), job.text())
        ranks = job.ranks()
        victim = chance.randrange(2)
        begin = job.last_superstep()
        duty = subprocess.Popen([sys.executable, "-c", DUTY_CYCLE, str(ranks[victim])])
        named = None
        try:
            while named is None and job.last_superstep() < begin + 60 and job.process.poll() is None:
                time.sleep(0.05)
                for line in (job.out / "metrics.jsonl").read_text().splitlines():
                    found = re.match(r'{"type":"straggler","superstep":(\d+),"rank":(\d+),', line)
                    if found and int(found.group(1)) > begin:
                        named = named or (int(found.group(1)), int(found.group(2)))
        finally:
            duty.kill()
            duty.wait()
            os.kill(ranks[victim], signal.SIGCONT)
        job.process.send_signal(signal.SIGUSR1)
        job.wait()
        expect(named is not None, "nobody was named")
        expect(named[1] == victim, f"named rank {named[1]}, slowed {victim}")
        expect(named[0] - begin <= 20, f"named after {named[0] - begin} supersteps")
        return {"supersteps until named": named[0] - begin}


class OtherRankCounts(Row):
    name = "F12"
    fault = "stopped at a random superstep on N ranks, continued on M; N and M of 1, 2, 3, 4, 6, 8"
    promise = "same bits as an undisturbed run, every superstep (and so every sample) exactly once"
    counts = (1, 2, 3, 4, 6, 8)
    trials = 36
    quick = 2
    seconds = 3.0

    def trial(self, seed):
        before, after = list(itertools.product(self.counts, self.counts))[(seed * 7) % 36]
        chance = random.Random(seed)
        expected = self.reference(10)
        job = self.job("trial", epochs=10)
        job.plain(before, "--set", f"train.max_supersteps={chance.randrange(1, 40)}")
        expect(job.wait() == 0, job.text())
        job.log.unlink()
        job.plain(after, "--resume", "--set", "train.max_supersteps=0")
        expect(job.wait() == 0, job.text())
        job.expect_result(expected)
        return {}


class LauncherKills(Row):
    name = "F17"
    fault = "SIGTERM, SIGINT, SIGINT twice, SIGHUP, SIGUSR1 or SIGKILL to the launcher, SIGKILL or SIGTERM to mpirun"
    promise = "no orphans after 5 s, no leftovers; a stop leaves a checkpoint of the last superstep; same bits after it"
    trials = 50
    quick = 2
    seconds = 5.0
    ways = ("TERM", "INT", "INT2", "HUP", "USR1", "KILL", "mpirun KILL", "mpirun TERM")

    def trial(self, seed):
        chance = random.Random(seed)
        way = self.ways[seed % len(self.ways)]
        expected = self.reference()
        job = self.job("trial")
        job.launch(chance.choice((2, 3)))
        expect(job.wait_for_superstep(chance.randrange(0, 80)), job.text())
        below = descendants(job.process.pid)
        number = getattr(signal, "SIG" + way.split()[-1].rstrip("2"))
        if way.startswith("mpirun"):
            os.kill(job.mpirun()[0], number)
            expect(job.wait() == 0, job.text())
            job.expect_result(expected)
        else:
            job.process.send_signal(number)
            if way == "INT2":
                time.sleep(0.5)
                job.process.send_signal(number)
            code = job.wait()
            expect(code == (-signal.SIGKILL if way == "KILL" else EXIT_RESUMABLE), f"{way}: {code}\n{job.text()}")
            job.expect_clean(below, 5.0)
            if way not in ("KILL", "INT2"):
                newest = max((job.out / "checkpoints").glob("step-*")).name
                expect(newest == f"step-{job.last_superstep():08}", f"{way}: {newest}, {job.last_superstep()}")
            job.log.unlink()
            job.launch(2, "--resume")
            expect(job.wait() == 0, job.text())
            job.expect_result(expected)
        job.expect_clean(below, 5.0)
        return {}


class Goodput(Row):
    name = "goodput"
    fault = "a random rank of 2 is killed once a minute on average, for 20 minutes (compared with a run in peace)"
    promise = "at least 0.90 of the undisturbed supersteps per second; same bits"
    trials = 1
    seconds = 2400.0

    def trial(self, seed):
        chance = random.Random(seed)
        epochs = 120_000
        rate = self.healthy_rate(epochs)
        supersteps = int(rate * 1200)
        job = self.job("trial", epochs=epochs, every=max(4, int(rate * 2)),
                       extra=("--set", f"train.max_supersteps={supersteps}", "--set",
                              "train.log_every_supersteps=100"))
        begin = time.monotonic()
        job.launch(2)
        kills = 0
        due = begin + chance.expovariate(1 / 60)
        while job.process.poll() is None:
            time.sleep(0.2)
            ranks = job.ranks()
            if time.monotonic() >= due and len(ranks) == 2:
                os.kill(ranks[chance.randrange(2)], signal.SIGKILL)
                kills += 1
                due = time.monotonic() + chance.expovariate(1 / 60)
        expect(job.process.returncode == 0, job.text())
        goodput = supersteps / rate / (time.monotonic() - begin)
        return {"goodput": goodput, "kills": kills}

    def healthy_rate(self, epochs):
        job = self.job("healthy", epochs=epochs, every=1000,
                       extra=("--set", "train.max_supersteps=20000", "--set", "train.log_every_supersteps=100"))
        begin = time.monotonic()
        job.launch(2)
        expect(job.wait(1200) == 0, job.text())
        return 20000 / (time.monotonic() - begin)


ROWS = (RandomKill, DoubleKill, KillAtCall, ErrorAtCall, LyingDisk, DamagedCheckpoint, StoppedRank, FalseAlarms, SlowRank, OtherRankCounts,
        LauncherKills, Goodput)
