"""Two nodes on one machine: network namespaces that a trial makes and removes, with names of their own, and a switch
between them. Open MPI reaches the second one through an agent in place of ssh and talks to it over TCP; nothing leaves
the namespaces."""

import os
import signal
import subprocess

from job import MPIRUN_OPTIONS, expect

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

    def launch(self, job, terminal=False):
        """`superstep launch` on the first host, two ranks on each."""
        agent = job.directory / "agent"
        agent.write_text(AGENT.format(directory=job.directory, prefix=self.prefix))
        agent.chmod(0o755)
        hostfile = job.directory / "hosts"
        hostfile.write_text("".join(f"{address} slots=2\n" for address in HOSTS.values()))
        job.processes_elsewhere = self.processes
        start = job.start_on_terminal if terminal else job.start
        start(self.inside("node-1", [
            job.program, "launch", *MPIRUN_OPTIONS, "--hostfile", str(hostfile), "-n", str(2 * len(HOSTS)), "--mca",
            "plm_rsh_agent", str(agent), "--", *job.train_words()]))


def can_make_networks():
    if os.geteuid() != 0:
        return False
    try:
        with Network() as network:
            network.limit("10mbit")
            network.lose("node-1", 0.01)
    except Exception:  # no such program, kernel or right
        return False
    return True
