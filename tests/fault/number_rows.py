"""The row in which a gradient of one rank is no number, or is far too large."""

import itertools
import random
import re

from job import expect
from row import Row

LAYERS = {"first": "conv1/weight", "last": "dense1/bias"}
FIRST_SLOTS = (0, 2, 5)  # of three ranks, eight slots


class BadNumbers(Row):
    name = "F8"
    fault = ("NaN, infinity or 1e6 times its value in one element of the first or last layer's gradient on one of 3 "
             "ranks, in a superstep or in four in a row")
    promise = ("all ranks leave the superstep out, parameters and optimizer state unchanged, with the bits of one rank, "
               "or stop with exit code 6; superstep, rank, slot, element and samples named")
    trials = 90
    seconds = 4.0
    needs_failpoints = True
    kinds = ("nan", "inf", "spike")
    policies = ("skip", "stop", "in a row")
    epochs = 8
    most_skipped = 3

    def trial(self, seed):
        kind, layer, policy = list(itertools.product(self.kinds, LAYERS, self.policies))[seed % 18]
        chance = random.Random(seed)
        rank = chance.randrange(3)
        superstep = chance.randrange(1, 20)
        place = self.places()[LAYERS[layer]]
        element = chance.randrange(place[1])
        count = self.most_skipped + 1 if policy == "in a row" else 1
        job = self.broken_job("trial", policy, [
            f"point=gradient,rank={rank},superstep={superstep + i},element={place[0] + element},action={kind}"
            for i in range(count)])
        job.launch(3)
        code = job.wait()
        text = job.text()
        value = {"nan": "-?nan", "inf": "inf", "spike": r"-?[0-9.e+]+"}[kind]
        finding = re.search(rf"is no number at superstep {superstep + 1} \(epoch \d+\): rank {rank}, (slot "
                            rf"{FIRST_SLOTS[rank]}: gradient of {LAYERS[layer]}\[{element}\] is {value} "
                            r"\(samples \d+(, \d+)*\))", text)
        expect(finding is not None, f"not named: {policy}, {kind} in {layer} layer on rank {rank}, {superstep}\n{text}")
        expect(code == (0 if policy == "skip" else 6), f"{policy}: exit code {code}\n{text}")
        expect(len(job.attempts()) == 1, "started again:\n" + text)
        left_out = [superstep + 1 + i for i in range({"skip": 1, "stop": 0, "in a row": self.most_skipped}[policy])]
        expect(job.supersteps_in_log("skipped") == left_out, f"left out {job.supersteps_in_log('skipped')}\n{text}")
        for later in left_out:
            expect(job.checkpoint_bytes(superstep) == job.checkpoint_bytes(later),
                   f"parameters or optimizer state of superstep {later} differ from those of {superstep}")
        if policy == "skip":
            self.expect_one_rank_agrees(job, finding.group(1), superstep, rank, place[0] + element, kind)
        else:
            expect(policy == "stop" or f"{count} supersteps in a row could not be used" in text, text)
            self.expect_goes_on(job, superstep, policy)
        return {policy: 1}

    def broken_job(self, name, policy, faults):
        job = self.job(name, epochs=self.epochs, every=1, extra=(
            "--set", f"check.bad_numbers={'stop' if policy == 'stop' else 'skip'}",
            "--set", f"check.max_skipped={self.most_skipped}", "--set", "check.gradient_limit=50",
            "--set", "checkpoint.asynchronous=false", "--set", "checkpoint.keep=100"))
        job.environment["SUPERSTEP_FAULT"] = ";".join(faults)
        return job

    def places(self):
        """Entry -> (offset in the gradient, number of elements), from what the program says of a checkpoint."""
        if not hasattr(self, "found_places"):
            job = self.job("places", epochs=1, every=1000)
            job.plain(1)
            expect(job.wait() == 0, job.text())
            self.found_places = job.places()
        return self.found_places

    def expect_one_rank_agrees(self, job, finding, superstep, rank, element, kind):
        single = self.broken_job("single", "skip", [f"point=gradient,superstep={superstep},nth={FIRST_SLOTS[rank] + 1},"
                                                    f"element={element},action={kind}"])
        single.plain(1)
        expect(single.wait() == 0, single.text())
        expect(finding in single.text(), f"3 ranks: {finding}\n1 rank: {single.text()}")
        expect(job.hash() == single.hash() is not None, f"3 ranks end with {job.hash()}, 1 rank with {single.hash()}")

    def expect_goes_on(self, job, superstep, policy):
        """Without the fault: after a stop, to the bits of an undisturbed run."""
        newest = max((job.out / "checkpoints").glob("step-*")).name
        last = superstep if policy == "stop" else superstep + self.most_skipped
        expect(newest == f"step-{last:08}", f"the newest checkpoint is {newest}, the stop came after {last}")
        del job.environment["SUPERSTEP_FAULT"]
        job.log.unlink()
        job.launch(2, "--resume")
        expect(job.wait() == 0, job.text())
        if policy == "stop":
            job.expect_result(self.reference(self.epochs))
