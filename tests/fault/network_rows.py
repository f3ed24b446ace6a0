"""The row in which the network between two nodes is slow, loses packets, or breaks.

The nodes are network namespaces that a trial makes and removes: two hosts with names of their own, and a switch
between them. Open MPI reaches the second one through an agent in place of ssh and talks to it over TCP; nothing leaves
the namespaces."""

import os
import random
import re
import signal
import subprocess
import time

from job import MPIRUN_OPTIONS, STEPS_PER_EPOCH, expect
from row import Row

HOSTS = {"node-1": "10.99.0.1", "node-2": "10.99.0.2"}
LOST = HOSTS["node-2"]
IN_HOST = 'hostname "$0"; exec "$@"'

# What mpirun calls instead of ssh: [options] ADDRESS COMMAND.
AGENT = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
address=$1
shift
if [ -e {directory}/down ]; then
  echo "ssh: connect to host $address port 22: No route to host" >&2
  exit 255
fi
name=node-${{address##*.}}
exec ip netns exec {prefix}$name unshare -u sh -c 'hostname "$0"; exec sh -c "$1"' "$name" "$*"
"""


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"{' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


class Network:
    """Two hosts and a switch. Leaving the context ends what still runs there and removes them."""

    def __init__(self):
        self.prefix = f"superstep-{os.getpid()}-"
        self.switch = self.prefix + "switch"
        self.names = [self.switch, *(self.prefix + host for host in HOSTS)]

    def __enter__(self):
        try:
            for name in self.names:
                run("ip", "netns", "add", name)
            run("ip", "-n", self.switch, "link", "add", "bridge", "type", "bridge")
            for host, address in HOSTS.items():
                name = self.prefix + host
                run("ip", "-n", self.switch, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", name)
                run("ip", "-n", self.switch, "link", "set", host, "master", "bridge", "up")
                run("ip", "-n", name, "link", "set", "lo", "up")
                run("ip", "-n", name, "link", "set", "eth0", "up")
                run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            self.heal()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def processes(self, host=None):
        names = [self.prefix + host] if host else self.names
        found = [subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
                 for name in names]
        return [int(pid) for text in found for pid in text.split()]

    def inside(self, host, command):
        return ["ip", "netns", "exec", self.prefix + host, "unshare", "-u", "sh", "-c", IN_HOST, host, *command]

    def cut(self):
        run("ip", "-n", self.switch, "link", "set", "bridge", "down")

    def heal(self):
        run("ip", "-n", self.switch, "link", "set", "bridge", "up")

    def limit(self, rate):
        for host in HOSTS:
            run("tc", "-n", self.prefix + host, "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst",
                "32kb", "latency", "400ms")

    def lose(self, host, part):
        """Drops this part of the packets that the host sends: a classic BPF program draws a 32-bit number for each."""
        passes = min(int(part * 2**32), 2**32 - 1)
        program = f"4,32 0 0 4294963256,53 1 0 {passes},6 0 0 2,6 0 0 0"  # drawn >= passes: 0 (pass), else 2 (drop)
        name = self.prefix + host
        run("tc", "-n", name, "qdisc", "add", "dev", "eth0", "clsact")
        run("tc", "-n", name, "filter", "add", "dev", "eth0", "egress", "bpf", "da", "bytecode", program)


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
        if os.geteuid() != 0:
            return False
        try:
            with Network() as network:
                network.limit("10mbit")
                network.lose("node-1", 0.01)
        except Exception:  # no such program, kernel or right
            return False
        return True

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
            self.start(job, network, HOSTS)
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

    def start(self, job, network, hosts, *more):
        agent = job.directory / "agent"
        agent.write_text(AGENT.format(directory=job.directory, prefix=network.prefix))
        agent.chmod(0o755)
        hostfile = job.directory / "hosts"
        hostfile.write_text("".join(f"{HOSTS[host]} slots=2\n" for host in hosts))
        job.start(network.inside("node-1", [
            self.program, "launch", *MPIRUN_OPTIONS, "--hostfile", str(hostfile), "-n", str(2 * len(hosts)), "--mca",
            "plm_rsh_agent", str(agent), "--", *job.train_words(*more)]))

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
