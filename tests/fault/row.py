"""One row of the fault matrix: a class whose trial(seed) injects one fault and raises Fault when the promise is
broken. What a trial returns are figures, such as seconds, that the table sums up."""

import pathlib
import shutil

from job import CONFIG, Job, expect, hash_in


class Row:
    name = ""
    fault = ""     # what is done
    promise = ""   # what must hold in every trial
    trials = 0     # that the row asks for
    quick = 0      # of them in --quick
    seconds = 0.0  # about, per trial
    minutes = 20.0  # --minutes, for rows that run for a time
    config = CONFIG
    needs_failpoints = False  # the faults are the program's own (base/failpoint.h)

    def __init__(self, program, directory):
        self.program = program
        self.directory = directory
        self.references = {}
        self.jobs = []

    def total(self):
        return self.trials

    def is_possible(self):
        """Whether this machine and this program allow the fault."""
        return not self.needs_failpoints or b"SUPERSTEP_FAULT" in pathlib.Path(self.program).read_bytes()

    def job(self, name, **options):
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)
        self.jobs.append(Job(self.program, path, **{"config": self.config, **options}))
        return self.jobs[-1]

    def end_jobs(self):
        for job in self.jobs:
            job.end()
        self.jobs.clear()

    def reference(self, epochs=30):
        """The hash of an undisturbed run on one rank."""
        if epochs not in self.references:
            job = self.job("reference", epochs=epochs, every=1000)
            job.plain(1)
            expect(job.wait() == 0, "the reference run failed:\n" + job.text())
            self.references[epochs] = hash_in(job.text())
            expect(self.references[epochs] is not None, "no hash:\n" + job.text())
        return self.references[epochs]

    def trial(self, seed):
        raise NotImplementedError
