"""The row in which one rank makes another collective call than the others."""

import itertools
import pathlib
import random
import re
import subprocess

from job import ENVIRONMENT, MPIRUN_OPTIONS, expect
from row import Row

# What the culprit calls, what the others call; scenarios of tests/bsp/fault_program.cpp.
KINDS = {
    "other_operation": (r"allgather\(float32, 3 elements", r"allreduce\(float32, sum, 1 element"),
    "other_count": (r"allreduce\(float64, sum, 4 elements", r"allreduce\(float64, sum, 8 elements"),
    "other_type": (r"allreduce\(float32, sum, 8 elements", r"allreduce\(float64, sum, 4 elements"),
    "other_root": (r"broadcast\(float32, 0 elements, root 1", r"broadcast\(float32, 0 elements, root 0"),
    "other_order": (r"broadcast\(float32, 1 element, root 0", r"allreduce\(float32, max, 1 element"),
    "skips_a_call": (r"sync\(", r"allreduce\(float32, sum, 1 element"),
}

# What a mismatch is found by when calls are compared at the sync alone; each names ranks and calls or peers.
AT_THE_SYNC = ("different collective calls", "disagree about a message", "wait in another call")


class MismatchedCall(Row):
    name = "F10"
    fault = ("one of 3 ranks calls a collective with another operation, count, type or root, in another order, or not at "
             "all; compared at every call, or at the sync alone")
    promise = ("exit code 5 before it does harm, with rank, call and call site of both sides; at the sync alone: never "
               "silent (5, or 75 with the ranks that wait)")
    trials = 36
    quick = 2
    seconds = 1.5

    def is_possible(self):
        return self.other_program().exists()

    def other_program(self):
        return pathlib.Path(self.program).parent / "tests/bsp/bsp_fault_program"

    def trial(self, seed):
        kind, checks, per_node = list(itertools.product(KINDS, ("every_call", "sync"), (0, 1)))[(seed * 7) % 24]
        culprit = random.Random(seed).randrange(3)
        done = subprocess.run(["mpirun", *MPIRUN_OPTIONS, "-n", "3", self.other_program(), kind, "1", str(per_node),
                               str(culprit), checks],
                              capture_output=True, text=True, errors="replace", timeout=60, env=ENVIRONMENT, check=False)
        text = done.stdout + done.stderr
        what = f"{kind}, {checks}, rank {culprit}, {per_node} ranks per node: exit code {done.returncode}\n{text}"
        others = ", ".join(str(rank) for rank in range(3) if rank != culprit)
        site = r"[^\n]*\) at \S*fault_program\.cpp:\d+"
        wrong, right = KINDS[kind]
        named = [re.search(rf"ranks \{{{ranks}\}}: call \d+ since the last sync: {call}{site}", text)
                 for ranks, call in ((culprit, wrong), (others, right))]
        expect("COMPLETE" not in text, what)
        if checks == "every_call":
            expect(done.returncode == 5 and all(named), what)
            return {"named before the call": 1}
        if done.returncode == 5:
            expect(any(named in text for named in AT_THE_SYNC), what)
            return {"at the sync: named": 1}
        expect(done.returncode == 75 and "did not arrive" in text and "fault_program.cpp" in text, what)
        return {"at the sync: stopped at the deadline": 1}
