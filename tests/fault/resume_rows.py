"""The row in which a run goes on with another number of ranks."""

import itertools
import random

from job import expect
from row import Row


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
