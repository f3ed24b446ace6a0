"""Rows in which processes of a job die: ranks, mpirun, the launcher."""

import contextlib
import os
import random
import signal
import time

from job import STEPS_PER_EPOCH, descendants, expect
from network import Network, can_make_networks
from row import Row

EXIT_RESUMABLE = 75


class RandomKill(Row):
    name = "F1"
    fault = ("SIGKILL of a random rank at a random moment; 4 ranks on one node, on one with node boundaries 1 or 2 ranks "
             "apart, and on two nodes (network namespaces) over TCP")
    promise = "same bits as an undisturbed run; rank named; no orphans, no leftovers; restart at once"
    trials = 300
    quick = 2
    seconds = 4.0
    epochs = 30
    most_seconds = 5.0  # from the kill to the first new superstep
    worlds = ("one node", "boundaries 2 apart", "boundaries 1 apart", "two nodes")

    def __init__(self, program, directory):
        super().__init__(program, directory)
        self.networks = can_make_networks()

    def trial(self, seed):
        chance = random.Random(seed)
        expected = self.reference(self.epochs)
        world = self.worlds[seed % len(self.worlds) if self.networks else seed % (len(self.worlds) - 1)]
        with contextlib.ExitStack() as stack:
            if world == "two nodes":
                job = self.job("trial", epochs=self.epochs)
                network = stack.enter_context(Network())
                network.launch(job)
            else:
                per_node = {"one node": 0, "boundaries 2 apart": 2, "boundaries 1 apart": 1}[world]
                job = self.job("trial", epochs=self.epochs, extra=("--set", f"bsp.ranks_per_node={per_node}"))
                job.launch(4)
            figures = self.kill_and_watch(job, chance, expected, patience=1.0 if world == "two nodes" else 0.0)
        return {**figures, f"killed: {world}": 1}

    def kill_and_watch(self, job, chance, expected, patience):
        expect(job.wait_for_superstep(chance.randrange(0, self.epochs * STEPS_PER_EPOCH - 20)), job.text())
        time.sleep(chance.uniform(0, 0.02))
        ranks = job.ranks()
        victim = chance.randrange(4)
        expect(victim in ranks, "the job ended before the fault")
        below = {*descendants(job.process.pid), *job.processes_elsewhere()}
        os.kill(ranks[victim], signal.SIGKILL)
        killed = time.monotonic()
        before = job.last_superstep()
        while job.starts() < 2 or job.last_superstep() < 0:
            expect(time.monotonic() - killed < 30, "no restart within 30 s:\n" + job.text())
            expect(job.process.poll() is None, "gave up:\n" + job.text())
            time.sleep(0.005)
        resumed = job.last_superstep()
        while job.last_superstep() <= resumed and job.process.poll() is None:
            time.sleep(0.005)
        recovery = time.monotonic() - killed
        expect(job.wait() == 0, job.text())
        job.expect_result(expected)
        job.expect_clean(below, patience)
        first = job.attempts()[0]
        expect(first["named_rank"] == victim, f"named rank {first['named_rank']}, killed {victim}")
        lost = before - first["checkpoint_superstep"]
        expect(lost <= 8, f"{lost} supersteps were lost")
        expect(recovery <= self.most_seconds, f"{recovery:.1f} s to the first new superstep\n{job.text()}")
        return {"seconds to the first new superstep": recovery, "supersteps lost": max(lost, 0)}


class DoubleKill(Row):
    name = "F1b"
    fault = "as F1 with 3 ranks: killed again during the restart; two ranks or all at once"
    promise = "same bits as an undisturbed run; no orphans, no leftovers"
    trials = 100
    quick = 0
    seconds = 6.0

    def trial(self, seed):
        chance = random.Random(seed)
        expected = self.reference()
        job = self.job("trial")
        job.launch(3)
        expect(job.wait_for_superstep(chance.randrange(0, 80)), job.text())
        ranks = job.ranks()
        count = chance.choice((1, 1, 2, 3))
        below = descendants(job.process.pid)
        for rank in chance.sample(sorted(ranks), min(count, len(ranks))):
            os.kill(ranks[rank], signal.SIGKILL)
        if count == 1:
            begin = time.monotonic()
            while set(job.ranks().values()) & set(ranks.values()) or not job.ranks():
                expect(time.monotonic() - begin < 30, "no restart within 30 s:\n" + job.text())
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.8))
            self.kill_again(job, chance)
        expect(job.wait() == 0, job.text())
        job.expect_result(expected)
        job.expect_clean(below)
        restarts = len(job.attempts()) - 1
        expect(restarts >= (2 if count == 1 else 1), f"{restarts} restarts")
        return {"killed again" if count == 1 else f"{count} at once": 1, "restarts": restarts}

    def kill_again(self, job, chance):
        """One of the processes of the restart, whatever it is doing."""
        while True:
            expect(job.process.poll() is None, "ended before it was killed again:\n" + job.text())
            again = job.ranks()
            if again:
                try:
                    os.kill(again[chance.choice(sorted(again))], signal.SIGKILL)
                    return
                except ProcessLookupError:
                    pass
            time.sleep(0.005)


class LauncherKills(Row):
    name = "F17"
    fault = ("SIGTERM, SIGINT, SIGINT twice, SIGHUP, SIGUSR1 or SIGKILL to the launcher, its terminal is closed, SIGKILL or "
             "SIGTERM to mpirun; half of the trials on two nodes (network namespaces), there SIGKILL to the other node's "
             "daemon, too")
    promise = "no orphans after 5 s, no leftovers; a stop leaves a checkpoint of the last superstep; same bits after it"
    trials = 57
    quick = 0
    seconds = 5.0
    ways = ("TERM", "INT", "INT2", "HUP", "USR1", "KILL", "mpirun KILL", "mpirun TERM", "closed terminal")

    def __init__(self, program, directory):
        super().__init__(program, directory)
        self.cases = [(way, 1) for way in self.ways]
        if can_make_networks():
            self.cases += [(way, 2) for way in (*self.ways, "daemon KILL")]

    def trial(self, seed):
        chance = random.Random(seed)
        way, nodes = self.cases[seed % len(self.cases)]
        expected = self.reference()
        job = self.job("trial")
        with contextlib.ExitStack() as stack:
            if nodes == 2:
                network = stack.enter_context(Network())
                network.launch(job, terminal=way == "closed terminal")
            else:
                job.launch(chance.choice((2, 3)), terminal=way == "closed terminal")
            self.strike_and_go_on(job, way, chance, expected)
        return {f"nodes: {nodes}": 1}

    def strike_and_go_on(self, job, way, chance, expected):
        expect(job.wait_for_superstep(chance.randrange(0, 80)), job.text())
        below = {*descendants(job.process.pid), *job.processes_elsewhere()} - {job.process.pid}
        self.strike(job, way)
        code = job.wait()
        # mpirun passes SIGTERM on: when all ranks had the time to end with a checkpoint, that was a stop.
        codes = {"KILL": (-signal.SIGKILL,), "mpirun KILL": (0,), "mpirun TERM": (0, EXIT_RESUMABLE), "daemon KILL": (0,)}
        expect(code in codes.get(way, (EXIT_RESUMABLE,)), f"{way}: {code}\n{job.text()}")
        if code != 0:
            job.expect_clean(below, 5.0)
            if way not in ("KILL", "INT2"):
                newest = max((job.out / "checkpoints").glob("step-*")).name
                expect(newest == f"step-{job.last_superstep():08}", f"{way}: {newest}, {job.last_superstep()}")
            job.log.unlink()
            job.launch(2, "--resume")
            expect(job.wait() == 0, job.text())
        job.expect_result(expected)
        job.expect_clean(below, 5.0)

    def strike(self, job, way):
        if way == "closed terminal":
            job.close_terminal()
            return
        number = getattr(signal, "SIG" + way.split()[-1].rstrip("2"))
        if way.startswith("mpirun"):
            os.kill(job.mpirun()[0], number)
        elif way.startswith("daemon"):
            os.kill(job.daemons()[0], number)
        else:
            job.process.send_signal(number)
        if way == "INT2":
            time.sleep(0.5)
            job.process.send_signal(number)
