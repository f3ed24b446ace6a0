"""The rows that go on for 20 minutes: what is left of the speed under faults, and a soak under all kinds of them."""

import os
import random
import signal
import time

from job import descendants, expect
from row import Row

# A superstep takes about a millisecond, and no gradient vanishes in hours: nothing is learnt by heart, so that numbers
# stay normal and the last supersteps cost what the first ones did.
LONG_CONFIG = """
[data]
format = "synthetic"
num_train = 20000
num_test = 100
sample_shape = [784]
num_classes = 10
[train]
epochs = 1000000
global_batch = 128
microbatches = 8
evaluate_every_epochs = 1000000
log_every_supersteps = 100
[optimizer]
kind = "momentum"
learning_rate = 1e-6
[checkpoint]
every_supersteps = {every}
keep = 3
[check]
parameters_every_updates = 10
[[model.layers]]
kind = "dense"
units = 200
[[model.layers]]
kind = "relu"
[[model.layers]]
kind = "dense"
units = 10
"""
STOPPED = 75  # exit code of a run that a signal ended, with a checkpoint
NEVER = 1_000_000_000  # supersteps


class LongRow(Row):
    """Runs that are ended by time, and then brought to one common superstep, where their hashes are compared."""
    trials = 1
    config = LONG_CONFIG
    every = 1000
    options = ()
    look_seconds = 1.0  # looking costs the job something, too

    def long_job(self, name, supersteps=NEVER, extra=()):
        job = self.job(name, every=self.every, extra=("--set", f"train.max_supersteps={supersteps}", *extra))
        job.below = set()
        return job

    def run_for(self, job, ranks, seconds, strike=None, mean_seconds=0.0, chance=None):
        """Launches (or continues) the job and stops it after that time; strike(job) at random moments, which says
        whether it could. Returns the seconds that the job ran."""
        begin = time.monotonic()
        job.launch(ranks, *(("--resume",) if job.out.exists() else ()), options=self.options)
        due = begin + chance.expovariate(1 / mean_seconds) if strike else float("inf")
        while time.monotonic() < begin + seconds:
            expect(job.process.poll() is None, f"ended with {job.process.poll()}:\n" + job.text()[-4000:])
            time.sleep(min(self.look_seconds, max(0.0, begin + seconds - time.monotonic())))
            job.below |= set(descendants(job.process.pid))
            if time.monotonic() >= due and strike(job):
                due = time.monotonic() + chance.expovariate(1 / mean_seconds)
        took = time.monotonic() - begin
        job.process.send_signal(signal.SIGTERM)
        code = job.wait(60)
        expect(code == STOPPED, f"exit code {code} after a stop:\n" + job.text()[-4000:])
        return took

    def reached(self, job):
        """The superstep of the last checkpoint."""
        return job.attempts()[-1]["checkpoint_superstep"]

    def bring_to(self, job, ranks, supersteps, extra=()):
        """Continues the job to that superstep; its hash there, and the seconds it took."""
        job.extra = ["--set", f"train.max_supersteps={supersteps}", *extra]
        begin = time.monotonic()
        job.launch(ranks, *(("--resume",) if job.out.exists() else ()), options=self.options)
        expect(job.wait(3600) == 0, job.text()[-4000:])
        took = time.monotonic() - begin
        expect(job.hash() is not None, "no hash:\n" + job.text()[-4000:])
        done = job.supersteps_in_log()
        expect(done == sorted(set(done)) and done[-1] == supersteps, "supersteps are there twice, or the last is not")
        return job.hash(), took


class Goodput(LongRow):
    name = "goodput"
    fault = ("a random rank of 2 is killed once a minute on average, for 20 minutes (--minutes); compared with a run in "
             "peace, half of it before and half of it after")
    promise = "at least 0.90 of the supersteps per second of the run in peace; same bits"
    seconds = 3000.0
    least_goodput = 0.90
    mean_seconds = 60.0
    checkpoint_seconds = 2.0

    def trial(self, seed):
        chance = random.Random(seed)
        limit = 60.0 * self.minutes
        peace = self.long_job("peace")
        peace_seconds = self.run_for(peace, 2, limit / 2)
        self.every = max(4, int(self.checkpoint_seconds * self.reached(peace) / peace_seconds))
        job = self.long_job("trial")
        kills = []
        took = self.run_for(job, 2, limit, lambda job: self.kill(job, chance, kills), self.mean_seconds, chance)
        expect(kills, "nobody was killed")
        speed = self.reached(job) / took
        last = max(self.reached(job), self.reached(peace)) + 100
        expected, more = self.bring_to(peace, 2, last)
        found, _ = self.bring_to(job, 2, last)
        expect(found == expected, f"another result: {found}, expected {expected}")
        job.expect_clean(job.below, 5.0)
        goodput = speed / (last / (peace_seconds + more))
        expect(goodput >= self.least_goodput, f"goodput {goodput:.3f} with {len(kills)} kills")
        return {"goodput": goodput, "kills": len(kills), "supersteps a second": speed}

    def kill(self, job, chance, kills):
        ranks = job.ranks()
        if len(ranks) != 2:
            return False
        os.kill(ranks[chance.randrange(2)], signal.SIGKILL)
        kills.append(time.monotonic())
        return True


class Soak(LongRow):
    name = "soak"
    fault = ("every 20 s on average, for 20 minutes (--minutes): a rank of 3 is killed, stopped for ever or for half a "
             "second, or mpirun is killed")
    promise = "goes on by itself to the bits of an undisturbed run on one rank; no orphans, no leftovers"
    seconds = 3000.0
    kinds = ("kill", "kill", "stop", "pause", "mpirun")
    options = ("--restarts", "1000000")
    mean_seconds = 20.0
    every = 200
    look_seconds = 0.2
    deadline = ("--set", "bsp.sync_deadline_seconds=2")

    def trial(self, seed):
        chance = random.Random(seed)
        faults = dict.fromkeys(self.kinds, 0)
        job = self.long_job("trial", extra=self.deadline)
        took = self.run_for(job, 3, 60.0 * self.minutes, lambda job: self.strike(job, chance, faults),
                            self.mean_seconds, chance)
        restarts = len(job.attempts()) - 1
        expect(sum(faults.values()) >= self.minutes and restarts > 1,
               f"too few faults: {faults}, {restarts} restarts in {took / 60:.1f} minutes")
        last = self.reached(job) + 100
        found, _ = self.bring_to(job, 3, last, extra=self.deadline)
        job.expect_clean(job.below, 5.0)
        self.every = NEVER
        expected, _ = self.bring_to(self.long_job("reference"), 1, last)
        expect(found == expected, f"another result: {found}, expected {expected}")
        return {**{f"faults: {kind}": count for kind, count in faults.items()}, "restarts": restarts,
                "supersteps": last, "minutes": took / 60}

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
