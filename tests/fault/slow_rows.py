"""Rows in which ranks stand still, are slow, or are healthy and must not be named."""

import os
import random
import re
import signal
import subprocess
import sys
import time

from job import MPIRUN_OPTIONS, expect
from row import Row

DUTY_CYCLE = """
import os, signal, sys, time
pid = int(sys.argv[1])
while True:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.001)
    os.kill(pid, signal.SIGCONT)
    time.sleep(0.001)
"""


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
        pattern = re.compile(r"ranks \{(\d+)\} (?:did not arrive|arrived, but do not run):\n\s+rank (\d+): .*(phase \"[^\"]+\"|waits in)")
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


class StoppedRankAndFiles(Row):
    name = "F6c"
    fault = ("SIGSTOP of rank 0 of 2, deadline 2 s; the directory of the checkpoints takes 20 s to be opened by the rank "
             "that waits (strace delay_enter)")
    promise = "rank named within the deadline + 2 s, the job ended within 10 s"
    trials = 5
    quick = 0
    seconds = 12.0
    deadline = 2.0

    def is_possible(self):
        return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0

    def trial(self, seed):
        job = self.job("trial", epochs=100000, every=1000000,
                       extra=("--set", f"bsp.sync_deadline_seconds={self.deadline}"))
        train = [job.program, *job.train_words()]
        job.start(["mpirun", *MPIRUN_OPTIONS, "-n", "1", *train, ":", "-n", "1", "strace", "-f", "-qq", "-o",
                   str(job.directory / "trace.txt"), "-P", str(job.out / "checkpoints"), "-e", "trace=openat", "-e",
                   "inject=openat:delay_enter=20000000", *train])
        expect(job.wait_for_superstep(random.Random(seed).randrange(10, 60)), job.text())
        os.kill(job.ranks()[0], signal.SIGSTOP)
        begin = time.monotonic()
        while not re.search(r"ranks \{0\} (did not arrive|arrived, but do not run)", job.text()):
            expect(time.monotonic() - begin < self.deadline + 2, "not named in time:\n" + job.text())
            time.sleep(0.01)
        took = time.monotonic() - begin
        expect(job.wait(10) == 75, job.text())
        return {"seconds until named": took}


class FalseAlarms(Row):
    name = "F6b"
    fault = "none: 10,000 healthy supersteps of 3 ranks on 2 cores with a deadline of 2 s, and of 2 ranks, each with a core"
    promise = "nobody is named as missing or stopped; of the 2 ranks, nobody as slow"
    trials = 1
    seconds = 60.0

    def trial(self, seed):
        for ranks in (3, 2):
            job = self.job(f"trial-{ranks}", epochs=2500, every=1000,
                           extra=("--set", "bsp.sync_deadline_seconds=2", "--set", "train.log_every_supersteps=1000"))
            job.launch(ranks)
            expect(job.wait(600) == 0, job.text())
            expect("did not arrive" not in job.text() and "do not run" not in job.text(), job.text())
        # Of 3 ranks on 2 cores one is in truth slower than another, now and then.
        slow = job.supersteps_in_log("straggler")
        expect(not slow, f"ranks were named as slow in supersteps {slow}")
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
