"""Rows in which the files of a checkpoint break: while they are written, and afterwards."""

import itertools
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import time

from job import MPIRUN_OPTIONS, STEPS_PER_EPOCH, Fault, expect, hash_in
from row import Row

# Calls that change or promise something on the disk while a checkpoint is written.
CALLS = ("openat", "mkdir", "pwrite64", "write", "fsync", "fallocate", "rename", "close", "unlinkat", "rmdir")


class CheckpointCalls(Row):
    """Shared by F2 and F3: one rank under strace, a fault at the n-th call of a kind on checkpoint files.

    strace counts the calls of each thread by itself. With checkpoint.asynchronous every piece of a checkpoint is a
    thread's, and the fault is at the first thread with n such calls; without it all calls are the main thread's.
    Threads do not take their work in the same order each time: a fault that did not come is tried again."""
    epochs = 3
    every = 4
    # (checkpoint.asynchronous, ranks, the one under strace): alone, as the owner of shared work, as another rank
    modes = (("false", 1, 0), ("true", 1, 0), ("false", 2, 0), ("false", 2, 1))
    tries = 5

    def is_possible(self):
        traced = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False)
        return traced.returncode == 0

    def cases(self):
        """(mode, system call, n) -> the line of strace, for every call of an undisturbed run that a fault can be at.
        Made once."""
        if not hasattr(self, "first"):
            self.first = {}
            for index, mode in enumerate(self.modes):
                job = self.traced(f"count-{index}", mode, [])
                expect(job.wait() == 0, job.text())
                counts = {}
                for line in (job.directory / "trace.txt").read_text(errors="replace").splitlines():
                    found = re.match(r"(\d+)\s+(\w+)\(", line)
                    if found:
                        thread, call = found.groups()
                        counts[thread, call] = counts.get((thread, call), 0) + 1
                        self.first.setdefault((mode, call, counts[thread, call]), line)
        return self.first

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

    def traced(self, name, mode, inject):
        asynchronous, ranks, victim = mode
        job = self.job(name, epochs=self.epochs, every=self.every,
                       extra=("--set", f"checkpoint.asynchronous={asynchronous}"))
        paths = [word for path in self.checkpoint_paths(job) for word in ("-P", str(path))]
        # -D: the traced process is mpirun's own child, and ends when mpirun says so.
        strace = ["strace", "-D", "-f", "-qq", "-o", str(job.directory / "trace.txt"), *paths,
                  "-e", f"trace={','.join(CALLS)}", *inject]
        words = [self.program, *job.train_words()]
        if ranks == 1:
            job.start([*strace, *words])
            return job
        command = ["mpirun", *MPIRUN_OPTIONS]
        for rank in range(ranks):
            command += [*((":",) if rank > 0 else ()), "-n", "1", *(strace if rank == victim else ()), *words]
        job.start(command)
        return job

    def injected(self, case, fault):
        """A job that ended, in which the fault was; its exit code."""
        mode, call, n = case
        for _ in range(self.tries):
            job = self.traced("trial", mode, ["-e", f"inject={call}:{fault}:when={n}"])
            code = job.wait()
            trace = (job.directory / "trace.txt").read_text(errors="replace")
            if "(INJECTED)" in trace or "+++ killed by SIGKILL +++" in trace:
                return job, code
        raise Fault(f"{case} {fault}: the call did not come in {self.tries} runs")

    def expect_resumes(self, job):
        words = ["--resume"] if (job.out / "config.toml").exists() else []
        begin = time.monotonic()
        while True:
            job.log.unlink()
            job.plain(1, *words)
            code = job.wait()
            # A rank that is waiting for the disk outlives its mpirun.
            if code == 0 or "another process is training this run" not in job.text() or time.monotonic() > begin + 5:
                break
            time.sleep(0.2)
        expect(code == 0, "cannot go on:\n" + job.text())
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
        cases = sorted(self.cases(), key=lambda case: (case[2], case[1], case[0]))
        case = cases[seed % len(cases)]
        job, code = self.injected(case, "signal=KILL")
        expect(code != 0, f"{case}: was not killed")
        self.expect_resumes(job)
        return {f"ranks: {case[0][1]}": 1}


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
        cases = sorted(itertools.product(self.cases(), self.errors), key=lambda case: (case[0][::-1], case[1]))
        case, error = cases[seed % len(cases)]
        job, code = self.injected(case, f"error={error}")
        text = job.text()
        what = f"{case} {error}: exit code {code}\n{text}"
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
        # New files read as zeros: nobody can tell zeros that were written (optimizer state at superstep 0) from others.
        return [case for case, line in super().cases().items()
                if case[1] == "pwrite64" and not re.search(r', "(\\0)+"', line)]

    def total(self):
        return len(self.cases())

    def trial(self, seed):
        case = self.cases()[seed % len(self.cases())]
        # The whole length, as far as the program can know: short counts are written again.
        job, code = self.injected(case, f"retval={self.length_of(case)}")
        expect(code == 1 and "read back other bytes" in job.text(), f"exit code {code}\n{job.text()}")
        self.expect_resumes(job)
        return {}

    def length_of(self, case):
        """What this pwrite64 of an undisturbed run returns."""
        return int(re.search(r" = (\d+)$", self.first[case]).group(1))


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


class LostFiles(Row):
    name = "F5"
    fault = ("a rank of 4 is killed, with node boundaries none, 1 or 2 ranks apart; then files of the run's checkpoints are "
             "deleted, cut or damaged: some of the newest, some of all, or all; in half the trials a file of a partner copy, too")
    promise = "goes on, on 1 to 4 ranks, from the newest checkpoint that run and partners have together, to the same bits; said"
    trials = 40
    quick = 1
    seconds = 3.0
    epochs = 30

    def trial(self, seed):
        chance = random.Random(seed)
        expected = self.reference(self.epochs)
        job = self.killed(chance)
        newest = self.newest(job.out / "checkpoints")
        self.lose_files(chance, job.out / "checkpoints", newest)
        harmed = None
        if seed % 2 == 1:
            harmed = chance.choice(sorted((job.directory / "copies").glob(f"*/*/{newest}/*")))
            self.harm(chance, harmed)
        job.log.unlink()
        job.launch(chance.choice((1, 2, 3, 4)), "--resume")
        expect(job.wait() == 0, job.text())
        job.expect_result(expected)
        return self.figures(job.text(), newest, harmed)

    def killed(self, chance):
        job = self.job("trial", epochs=self.epochs)
        job.extra += ["--set", f"bsp.ranks_per_node={chance.choice((0, 1, 2))}",
                      "--set", f"checkpoint.partner_directory={job.directory / 'copies'}"]
        job.plain(4)
        expect(job.wait_for_superstep(chance.randrange(16, 100)), job.text())
        os.kill(job.ranks()[chance.randrange(4)], signal.SIGKILL)
        expect(job.wait() != 0, "was not killed")
        return job

    @staticmethod
    def newest(checkpoints):
        return max(path.name for path in checkpoints.iterdir() if re.fullmatch(r"step-\d+", path.name))

    def lose_files(self, chance, checkpoints, newest):
        way = chance.choice(("all", "newest", "any"))
        if way == "all":
            shutil.rmtree(checkpoints)
            return
        files = sorted(checkpoints.glob(f"{newest}/*" if way == "newest" else "step-*/*"))
        certain = chance.choice([file for file in files if file.parent.name == newest])
        for file in files:
            if file == certain or chance.random() < 0.4:
                self.harm(chance, file)

    @staticmethod
    def harm(chance, file):
        content = bytearray(file.read_bytes())
        way = chance.choice(("delete", "cut", "flip"))
        if way == "delete":
            file.unlink()
            return
        place = chance.randrange(len(content))
        if way == "cut":
            content = content[:place]
        else:
            content[place] ^= 1 << chance.randrange(8)
        file.write_bytes(content)

    @staticmethod
    def figures(text, newest, harmed):
        """What was restored or given up is said; nothing is given up without need."""
        restored = re.findall(r"^superstep: restored \S+/(step-\d+) with \d+ of \d+ blocks from partner copies on \S+ \(",
                              text, re.M)
        given_up = re.findall(r"^superstep: (?:cannot restore \S+/(step-\d+) |skipped partner copies on .*)", text, re.M)
        begin = re.search(r"^continuing from \S+/(step-\d+)", text, re.M)
        expect(begin is not None, "began anew:\n" + text)
        if begin.group(1) < newest:
            expect(harmed is not None and given_up, f"{newest} was given up:\n{text}")
            return {"older checkpoint": 1}
        expect(restored == [begin.group(1)], "not said what was restored:\n" + text)
        return {"restored": 1}
