"""The row in which the network between two nodes is slow, loses packets, or breaks."""

import random
import re
import time

from job import STEPS_PER_EPOCH, expect
from network import HOSTS, LOST, Network, can_make_networks
from row import Row


class BrokenNetwork(Row):
    name = "F16"
    fault = ("4 ranks on 2 nodes over TCP: 10 Mbit/s; 1 % or 5 % of the packets lost; a cut of 3 s; a cut for ever, of "
             "both directions or of one")
    promise = ("same bits; after a cut for ever: stopped within 15 s with the node named, nothing left there, and "
               "continued on the 2 ranks of the other node")
    trials = 60
    seconds = 15.0
    kinds = ("cut of 3 s", "10 Mbit/s", "cut", "1 % lost", "one-way cut", "5 % lost")

    def is_possible(self):
        return can_make_networks()

    def trial(self, seed):
        kind = self.kinds[seed % len(self.kinds)]
        chance = random.Random(seed)
        epochs = 100 if "cut" in kind else 30
        expected = self.reference(epochs)
        job = self.job("trial", epochs=epochs, extra=("--set", "train.log_every_supersteps=1"))
        with Network() as network:
            if kind == "10 Mbit/s":
                network.limit("10mbit")
            elif "lost" in kind:
                for host in HOSTS:
                    network.lose(host, float(kind.split()[0]) / 100)
            network.launch(job)
            begin = time.monotonic()
            figures = {f"seconds, {kind}": 0.0}
            if "cut" in kind:
                expect(job.wait_for_superstep(chance.randrange(0, epochs * STEPS_PER_EPOCH - 300)), job.text())
                begin = time.monotonic()
                self.cut(job, network, kind)
                figures = {f"seconds until the node was named, {kind}": time.monotonic() - begin}
            if kind in ("cut", "one-way cut"):
                self.expect_goes_on(job, network)
            code = job.wait(240)
            expect(code == 0, f"{kind}: exit code {code}\n{job.text()}")
            if kind not in ("cut", "one-way cut"):
                expect(len(job.attempts()) == 1, f"{kind}: started again\n{job.text()}")
                figures = {f"seconds, {kind}": time.monotonic() - begin}
        job.expect_result(expected)
        return figures

    def cut(self, job, network, kind):
        if kind == "one-way cut":
            network.lose("node-2", 1.0)
        else:
            network.cut()
        if kind == "cut of 3 s":
            time.sleep(3)
            network.heal()
            return
        (job.directory / "down").touch()  # nobody can log in there any more
        begin = time.monotonic()
        while f"the connection to {LOST} was lost" not in job.text():
            expect(time.monotonic() - begin < 15, f"{kind}: {LOST} was not named within 15 s:\n{job.text()}")
            expect(job.process.poll() is None, f"{kind}: ended:\n{job.text()}")
            time.sleep(0.02)

    def expect_goes_on(self, job, network):
        """By itself, on the ranks of the host that is left."""
        begin = time.monotonic()
        while network.processes("node-2"):
            expect(time.monotonic() - begin < 20, f"processes left on the node: {network.processes('node-2')}")
            time.sleep(0.05)
        code = job.wait(120)
        expect(code == 0, f"did not go on by itself: exit code {code}\n{job.text()}")
        expect(re.search(rf"{re.escape(LOST)} was named twice and is left out; hosts left: 1, processes: 2", job.text()),
               job.text())
