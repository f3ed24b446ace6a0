"""The row in which bits flip in memory."""

import itertools
import random
import re

from job import CONFIG, STEPS_PER_EPOCH, expect
from row import Row

BLOCK = 4096


class FlippedBit(Row):
    name = "F18"
    fault = ("one bit of a parameter, of a shard received from the other node or of the optimizer's state flips after a "
             "random update, on one of 2 ranks of one node or of two nodes")
    promise = ("with check.parameters_every_updates = 1 found before the next use: exit code 7 with rank, array, update and "
               "block; goes on by itself to the same bits, also when a checkpoint was due")
    trials = 200
    seconds = 4.0
    needs_failpoints = True
    # Two blocks of parameters, so that each rank owns one.
    config = CONFIG.replace("filters = 4", "filters = 64").replace("parameters_every_updates = 10",
                                                                   "parameters_every_updates = 1")
    blocks = 2
    epochs = 10
    pattern = re.compile(r"rank (\d+) found (parameters|optimizer state 0) changed since update (\d+), where nobody "
                         r"wrote: block (\d+) \(elements (\d+) to (\d+), in (\S+)")

    def trial(self, seed):
        array, per_node, asynchronous = list(itertools.product(("parameters", "optimizer_state"), (0, 1),
                                                               ("true", "false")))[seed % 8]
        chance = random.Random(seed)
        superstep = chance.randrange(self.epochs * STEPS_PER_EPOCH)
        rank = chance.randrange(2)
        element = chance.randrange(BLOCK * (self.blocks if array == "parameters" else 1))
        job = self.job("trial", epochs=self.epochs, extra=("--set", f"bsp.ranks_per_node={per_node}", "--set",
                                                           f"checkpoint.asynchronous={asynchronous}"))
        job.environment["SUPERSTEP_FAULT"] = (f"point={array},rank={rank},superstep={superstep},attempt=0,"
                                              f"element={element},action=flip:{chance.randrange(32)}")
        job.launch(2)
        code = job.wait()
        what = f"{array} on rank {rank} at superstep {superstep}, element {element}:\n{job.text()}"
        found = self.pattern.search(job.text())
        expect(found is not None, "not found: " + what)
        expect(code == 0, f"exit code {code}: " + what)
        expect(job.attempts()[0]["mpirun_exit_code"] == 7, what)
        # A block is verified by the rank whose share it is: on one node, parameters are one copy.
        block = element // BLOCK if array == "parameters" else rank
        finder = block if per_node == 0 and array == "parameters" else rank
        expect((int(found.group(1)), int(found.group(3)), int(found.group(4))) == (finder, superstep + 1, block),
               f"expected rank {finder}, update {superstep + 1}, block {block}: " + what)
        job.expect_result(self.reference(self.epochs))
        # Of parameters, a node has what its ranks own and what it received from the other one.
        received = array == "parameters" and per_node == 1 and block != rank
        return {"received shard" if received else array: 1}
