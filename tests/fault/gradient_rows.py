"""The row in which a rank computes wrong gradients that are numbers like all others.

The supersteps in which gradients are computed again are worked out here on their own, from the seed, so that the row
says for every trial in which superstep the fault has to be found, or that it cannot be."""

import itertools
import random
import re

from job import CONFIG, STEPS_PER_EPOCH, expect
from row import Row

WORD, LONG = (1 << 32) - 1, (1 << 64) - 1
SHARES = (1, 0.3, 0.1, 0.03)


def philox(counter, key):
    """Philox4x32-10 (Salmon et al., 2011)."""
    for _ in range(10):
        product0, product1 = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = ((product1 >> 32) ^ counter[1] ^ key[0], product1 & WORD,
                   (product0 >> 32) ^ counter[3] ^ key[1], product0 & WORD)
        key = ((key[0] + 0x9E3779B9) & WORD, (key[1] + 0xBB67AE85) & WORD)
    return counter


def stream_id(purpose):
    """FNV-1a."""
    value = 0xcbf29ce484222325
    for byte in purpose.encode():
        value = ((value ^ byte) * 0x100000001b3) & LONG
    return value


def is_drawn(train_seed, superstep, share):
    key, upper = (train_seed & WORD, train_seed >> 32), (2, 0)
    for name in (stream_id("gradient recheck"), superstep):
        folded = philox((name & WORD, name >> 32, *upper), key)
        key, upper = folded[:2], folded[2:]
    words = philox((0, 0, *upper), key)
    return ((words[0] << 32 | words[1]) >> 11) * 2.0 ** -53 < share


class WrongGradient(Row):
    name = "F18b"
    fault = ("one bit flips in one element of the gradients that one of 3 ranks computes, once or from a superstep on "
             "each time, with check.recompute_gradients = " + ", ".join(map(str, SHARES)))
    promise = ("found in the first superstep drawn since the fault began, and in no other: exit code 7 with rank, "
               "superstep, slots, element and both values, and whether the fault was there when repeated; goes on by "
               "itself, to the bits of an undisturbed run where no checkpoint lies between fault and finding")
    trials = 120
    seconds = 4.0
    needs_failpoints = True
    epochs = 30
    latest = 12  # that a fault begins after as many supersteps
    pattern = re.compile(r"gradients of superstep (\d+): rank (\d+) on \S+ computed a wrong gradient: "
                         r"slots? \d+(?: to \d+)?, (\S+)\[(\d+)\] is (\S+) by rank (\d) and (\S+) by rank (\d)\. It "
                         r"(was wrong once|is wrong each time)")

    def trial(self, seed):
        share, persistent = list(itertools.product(SHARES, (False, True)))[seed % 8]
        chance = random.Random(seed)
        begin = chance.randrange(self.latest)
        rank = chance.randrange(3)
        name, (offset, elements) = chance.choice(sorted(self.places().items()))
        index = chance.randrange(elements)
        # A flipped exponent makes numbers that the check of numbers stops at, where gradients are not compared.
        bit = chance.randrange(32 if share == 1 else 23)
        train_seed = 1 + seed
        job = self.job("trial", epochs=self.epochs, extra=(
            "--set", f"train.seed={train_seed}", "--set", f"check.recompute_gradients={share}",
            "--set", "checkpoint.asynchronous=false", "--set", f"bsp.ranks_per_node={chance.randrange(2)}"))
        job.environment["SUPERSTEP_FAULT"] = self.faults(job, persistent, begin, rank, offset + index, bit)
        job.launch(3)
        code = job.wait()
        times = "each time" if persistent else "once"
        what = f"share {share}, {times}, rank {rank} from {begin}, {name}[{index}], bit {bit}:\n{job.text()}"
        expect(code == 0, f"exit code {code}: {what}")
        last = job.supersteps if persistent else begin + 1
        drawn = [step for step in range(begin + 1, last + 1) if is_drawn(train_seed, step, share)]
        found = self.pattern.search(job.text())
        kind = f"{times}, r = {share}"
        if not drawn:
            expect(found is None and len(job.attempts()) == 1, "found what was not looked at: " + what)
            return {f"{kind}: not drawn": 1}
        expect(found is not None, f"not found in superstep {drawn[0]}: {what}")
        expect((int(found.group(1)), int(found.group(2))) == (drawn[0], rank), f"expected {drawn[0]}: {what}")
        expect((found.group(3), int(found.group(4))) == (name, index) and found.group(5) != found.group(7), what)
        expect(str(rank) in (found.group(6), found.group(8)), what)
        expect(found.group(9) == ("is wrong each time" if persistent else "was wrong once"), what)
        first = job.attempts()[0]
        expect(len(job.attempts()) == 2 and first["mpirun_exit_code"] == 7, what)
        figures = {f"{kind}: supersteps until found" if persistent else f"{kind}: found": drawn[0] - begin}
        if first["checkpoint_superstep"] <= begin:
            job.expect_result(self.undisturbed(train_seed))
            figures["same bits after the restart"] = 1
        return figures

    def undisturbed(self, train_seed):
        """The hash of one rank."""
        job = self.job("reference", epochs=self.epochs, every=1000, extra=("--set", f"train.seed={train_seed}"))
        job.plain(1)
        expect(job.wait() == 0, "the reference run failed:\n" + job.text())
        return job.hash()

    @staticmethod
    def faults(job, persistent, begin, rank, element, bit):
        """Whatever the rank computes is wrong, for itself and for others, or its first unit of a superstep is."""
        points = ("gradient", "gradient.recomputed") if persistent else ("gradient",)
        supersteps = range(begin, job.supersteps if persistent else begin + 1)
        return ";".join(f"point={point},rank={rank},superstep={superstep},attempt=0,nth={0 if persistent else 1},"
                        f"element={element},action=flip:{bit}" for superstep in supersteps for point in points)

    def places(self):
        """Entry -> (offset in the gradient, number of elements)."""
        if not hasattr(self, "found_places"):
            job = self.job("places", epochs=1, every=STEPS_PER_EPOCH, config=CONFIG)
            job.plain(1)
            expect(job.wait() == 0, job.text())
            self.found_places = job.places()
        return self.found_places
