"""The row in which a gradient of one rank is no number, or is far too large.

Slots are computed in one pass where they can be (docs/decisions/0010-slots-of-a-rank-in-one-pass.md), and the fault is
then in the sum of two slots. A limit on gradients has them computed one by one: spikes are found by one, and the run on
one rank needs one, so that the fault can be in a slot of its choice."""

import itertools
import random
import re

from job import CONFIG, expect
from row import Row

LAYERS = {"first": "conv1/weight", "last": "dense1/bias"}
# Of three ranks with eight slots: the first slot of a pair that is computed in one pass, and which hit of the rank's
# failpoint it is, in one pass (0 1 | 2 3, 4 | 5, 6 7) as well as one by one.
SLOTS = (0, 2, 6)
HITS = (1, 1, 2)
# Above the gradients of healthy slots and below spikes; and above everything but infinity and NaN.
SPIKE_LIMIT = 100
HUGE_LIMIT = 1e30
# Says on rank 0 whether its two slots are computed one by one, in a superstep without a fault.
PROBE = "point=gradient,rank=0,superstep=0,nth=2,action=delay:0"
PROBE_SAYS = "failpoint gradient on rank 0 at superstep 0: delay"


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
    # No statistics over the samples of a slot, four samples a slot and four classes, so that slots begin on 64 bytes:
    # they can be computed in one pass. In the last of the four steps of an epoch slots differ in size, and cannot.
    config = CONFIG.replace("num_train = 75", "num_train = 116").replace("global_batch = 20", "global_batch = 32")
    config = config.replace('[[model.layers]]\nkind = "batch_norm"\n', "")
    config = config.replace("num_classes = 3", "num_classes = 4").replace("units = 3", "units = 4")
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
        limit = SPIKE_LIMIT if kind == "spike" else 0
        job = self.broken_job("trial", policy, limit, [PROBE, *(
            f"point=gradient,rank={rank},superstep={superstep + i},nth={HITS[rank]},element={place[0] + element},"
            f"action={kind}" for i in range(count))])
        job.launch(3)
        code = job.wait()
        text = job.text()
        way = "one by one" if limit > 0 else "in one pass"
        expect((PROBE_SAYS in text) == (limit > 0), f"slots were not computed {way}:\n{text}")
        value = {"nan": "-?nan", "inf": "inf", "spike": r"-?[0-9.e+]+"}[kind]
        finding = re.search(rf"is no number at superstep {superstep + 1} \(epoch \d+\): rank {rank}, (slot "
                            rf"{SLOTS[rank]}: gradient of {LAYERS[layer]}\[{element}\] is {value} "
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

    def broken_job(self, name, policy, limit, faults):
        job = self.job(name, epochs=self.epochs, every=1, extra=(
            "--set", f"check.bad_numbers={'stop' if policy == 'stop' else 'skip'}",
            "--set", f"check.max_skipped={self.most_skipped}", "--set", f"check.gradient_limit={limit}",
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
        limit = SPIKE_LIMIT if kind == "spike" else HUGE_LIMIT  # one hit for every slot
        single = self.broken_job("single", "skip", limit, [
            f"point=gradient,superstep={superstep},nth={SLOTS[rank] + 1},element={element},action={kind}"])
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
