"""The row in which all kinds of faults come for a long time."""

import os
import random
import signal
import time

from job import descendants, expect
from row import Row


class Soak(Row):
    name = "soak"
    fault = ("every 20 s on average, for 20 minutes (--minutes): a rank of 3 is killed, stopped for ever or for half a "
             "second, or mpirun is killed")
    promise = "goes on by itself to the bits of an undisturbed run; no orphans, no leftovers"
    trials = 1
    seconds = 3000.0
    kinds = ("kill", "kill", "stop", "pause", "mpirun")
    mean_seconds = 20.0
    deadline = 2.0

    def trial(self, seed):
        chance = random.Random(seed)
        supersteps = self.healthy_supersteps()
        job = self.long_job("trial", supersteps)
        job.launch(3, options=("--restarts", "1000000"))
        below = set()
        faults = dict.fromkeys(self.kinds, 0)
        begin = time.monotonic()
        due = begin + chance.expovariate(1 / self.mean_seconds)
        while job.process.poll() is None:
            expect(time.monotonic() - begin < 60 * self.minutes * 4 + 120, "no end in four times the time:\n" +
                   job.text()[-4000:])
            time.sleep(0.1)
            below |= set(descendants(job.process.pid))
            if time.monotonic() >= due and self.strike(job, chance, faults):
                due = time.monotonic() + chance.expovariate(1 / self.mean_seconds)
        expect(job.process.returncode == 0, f"exit code {job.process.returncode}\n{job.text()[-6000:]}")
        took = time.monotonic() - begin
        expected = self.long_result(supersteps)
        expect(job.hash() == expected, f"another result: {job.hash()}, expected {expected}")
        expect(sum(faults.values()) >= self.minutes and len(job.attempts()) > 1,
               f"too few faults: {faults}, {len(job.attempts())} attempts in {took / 60:.1f} minutes")
        done = job.supersteps_in_log()
        expect(done == sorted(set(done)) and done[-1] == supersteps, "supersteps are there twice, or the last is not")
        job.expect_clean(below, 5.0)
        return {**{f"faults: {kind}": count for kind, count in faults.items()}, "restarts": len(job.attempts()) - 1,
                "supersteps": supersteps, "minutes": took / 60}

    def strike(self, job, chance, faults):
        """False when the job is between two attempts."""
        kind = chance.choice(self.kinds)
        ranks = job.ranks()
        if len(ranks) != 3:
            return False
        pid = ranks[chance.randrange(3)]
        try:
            if kind == "mpirun":
                os.kill(job.mpirun()[0], signal.SIGKILL)
            elif kind == "kill":
                os.kill(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGSTOP)
            if kind == "pause":
                time.sleep(0.5)
                os.kill(pid, signal.SIGCONT)
        except (OSError, IndexError):
            return False
        faults[kind] += 1
        return True

    def long_job(self, name, supersteps):
        return self.job(name, epochs=self.long_epochs, every=500, extra=(
            "--set", f"train.max_supersteps={supersteps}", "--set", "train.log_every_supersteps=100",
            "--set", f"bsp.sync_deadline_seconds={self.deadline}"))

    def healthy_supersteps(self):
        """How many the time allows, with a third of it for recovery."""
        job = self.long_job("healthy", 4000)
        begin = time.monotonic()
        job.launch(3)
        expect(job.wait(600) == 0, job.text())
        return max(500, int(4000 / (time.monotonic() - begin) * 60 * self.minutes * 2 / 3) // 100 * 100)
