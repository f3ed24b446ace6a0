"""One small training job, its faults, and what it may leave behind. Python's standard library only."""

import contextlib
import fcntl
import json
import math
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import termios
import threading
import time

MPIRUN_OPTIONS = ["--oversubscribe", "--bind-to", "none"]
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
ENVIRONMENT.pop("OMP_NUM_THREADS", None)

# Batch normalisation, dropout, an optimizer with two state arrays, an uneven last batch.
CONFIG = """
[data]
format = "synthetic"
num_train = 75
num_test = 30
sample_shape = [1, 6, 6]
num_classes = 3
[train]
epochs = {epochs}
global_batch = 20
microbatches = 8
evaluation_batch = 16
evaluate_every_epochs = 1000
[optimizer]
kind = "adam"
learning_rate = 0.01
[checkpoint]
every_supersteps = {every}
keep = 3
[check]
parameters_every_updates = 10
[[model.layers]]
kind = "conv2d"
filters = 4
[[model.layers]]
kind = "batch_norm"
[[model.layers]]
kind = "relu"
[[model.layers]]
kind = "flatten"
[[model.layers]]
kind = "dropout"
rate = 0.3
[[model.layers]]
kind = "dense"
units = 3
"""
STEPS_PER_EPOCH = 4


class Fault(Exception):
    """A trial that did not end as promised."""


def expect(condition, what):
    if not condition:
        raise Fault(what)


def hash_in(text):
    found = re.search(r"^final: .* parameters_hash=(xxh3:[0-9a-f]{32})$", text, re.M)
    return found.group(1) if found else None


def processes():
    """pid -> (parent, command name) of all processes that are no zombies."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                    head, tail = file.read().rsplit(")", 1)
            except OSError:
                continue
            state, parent = tail.split()[:2]
            if state != "Z":
                table[int(entry)] = (int(parent), head.split("(", 1)[1])
    return table


def descendants(pid):
    table = processes()
    found = []
    for child in table:
        ancestor = child
        while ancestor in table and ancestor != pid:
            ancestor = table[ancestor][0]
        if ancestor == pid and child != pid:
            found.append(child)
    return found


def variable_of(pid, name):
    try:
        content = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    for line in content.split(b"\0"):
        if line.startswith(name.encode() + b"="):
            return line.split(b"=", 1)[1].decode()
    return None


def is_alive(pid):
    return pid in processes()


def leftovers(jobs):
    """Names in /dev/shm that belong to one of these Open MPI jobs; others may run beside this one."""
    return [name for name in os.listdir("/dev/shm") for job in jobs
            if name.startswith(f"superstep-{job}-") or (name.startswith("vader_segment.") and f".{job:x}." in name)]


class Job:
    """`superstep launch` (or another command) on the small configuration, in a directory of its own."""

    def __init__(self, program, directory, epochs=30, every=4, extra=(), config=CONFIG):
        self.program = program
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.sessions = self.directory / "tmp"
        self.sessions.mkdir(exist_ok=True)
        self.config = self.directory / "run.toml"
        self.config.write_text(config.format(epochs=epochs, every=every))
        self.out = self.directory / "run"
        self.supersteps = epochs * STEPS_PER_EPOCH
        self.extra = list(extra)
        self.environment = {**ENVIRONMENT, "TMPDIR": str(self.sessions)}
        self.jobs = set()
        self.log = self.directory / "output.txt"
        self.process = None
        self.processes_elsewhere = list  # pids of the job that are no descendants of the process here

    def train_words(self, *more):
        return ["train", str(self.config), "--out", str(self.out), *self.extra, *more]

    def start_on_terminal(self, command):
        """The command is the leader of a session on a terminal, which close_terminal() closes."""
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen(command, cwd=self.directory, stdin=end, stdout=end, stderr=end,
                                        env=self.environment, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(end)
        self.reader = threading.Thread(target=self.read_terminal, daemon=True)
        self.reader.start()

    def read_terminal(self):
        with open(self.log, "ab") as log:
            while self.terminal is not None:
                if select.select([self.terminal], [], [], 0.02)[0]:
                    try:
                        log.write(os.read(self.terminal, 1 << 16))
                    except OSError:  # nobody has it open any more
                        return
                    log.flush()

    def close_terminal(self):
        """SIGHUP for its session, and every write fails from then on."""
        terminal, self.terminal = self.terminal, None
        self.reader.join()
        os.close(terminal)

    def start(self, command):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, env=self.environment)

    def end(self):
        """Of a trial that failed while it ran."""
        if self.process is not None and self.process.poll() is None:
            for pid in [self.process.pid, *descendants(self.process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def launch(self, ranks, *more, options=(), terminal=False):
        start = self.start_on_terminal if terminal else self.start
        start([self.program, "launch", *MPIRUN_OPTIONS, "-n", str(ranks), *options, "--", *self.train_words(*more)])

    def plain(self, ranks, *more):
        prefix = ["mpirun", *MPIRUN_OPTIONS, "-n", str(ranks)] if ranks > 1 else []
        self.start([*prefix, self.program, *self.train_words(*more)])

    def text(self):
        return self.log.read_text(errors="replace")

    def wait(self, timeout=60):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            left = descendants(self.process.pid)
            for pid in [self.process.pid, *left]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
            self.process.wait()
            raise Fault(f"the job hung for {timeout} s") from None

    def last_superstep(self):
        """The newest superstep in metrics.jsonl, or -1."""
        try:
            content = (self.out / "metrics.jsonl").read_text()
        except OSError:
            return -1
        found = re.findall(r'"type":"superstep","superstep":(\d+),', content)
        return int(found[-1]) if found else -1

    def wait_for_superstep(self, superstep, timeout=40):
        deadline = time.monotonic() + timeout
        while self.last_superstep() < superstep:
            if self.process.poll() is not None:
                return False
            expect(time.monotonic() < deadline, f"superstep {superstep} was not reached in {timeout} s")
            time.sleep(0.004)
        return True

    def ranks(self):
        """rank -> pid of the processes that train now."""
        found = {}
        for pid in {*descendants(self.process.pid), *self.processes_elsewhere()}:
            rank = variable_of(pid, "OMPI_COMM_WORLD_RANK")
            if rank is not None:
                found[int(rank)] = pid
                job = variable_of(pid, "PMIX_NAMESPACE")
                if job is not None:  # the process may end between the two looks
                    self.jobs.add(int(job))
        return found

    def mpirun(self):
        table = processes()
        return [pid for pid in descendants(self.process.pid) if table.get(pid, (0, ""))[1] in ("mpirun", "orterun")]

    def daemons(self):
        """Of mpirun, on other nodes."""
        table = processes()
        found = {*descendants(self.process.pid), *self.processes_elsewhere()}
        return [pid for pid in found if table.get(pid, (0, ""))[1] == "orted"]

    def attempts(self):
        try:
            return [json.loads(line) for line in (self.out / "launch.jsonl").read_text().splitlines()]
        except OSError:
            return []

    def starts(self):
        try:
            return len(json.loads((self.out / "provenance.json").read_text())["starts"])
        except (OSError, ValueError):
            return 0

    def supersteps_in_log(self, kind="superstep"):
        lines = [json.loads(line) for line in (self.out / "metrics.jsonl").read_text().splitlines()]
        return [line["superstep"] for line in lines if line["type"] == kind]

    def hash(self):
        return hash_in(self.text())

    def checkpoint(self, superstep):
        return self.out / "checkpoints" / f"step-{superstep:08}"

    def checkpoint_bytes(self, superstep):
        """File name -> content of the arrays of a checkpoint."""
        return {path.name: path.read_bytes() for path in self.checkpoint(superstep).glob("*.bin")}

    def places(self):
        """Entry of the model -> (offset, elements) in the flat buffers, from `superstep inspect` of the last checkpoint.

        Every entry begins on 64 bytes."""
        newest = max((self.out / "checkpoints").glob("step-*"))
        text = subprocess.run([self.program, "inspect", newest], capture_output=True, text=True, check=True).stdout
        found, offset = {}, 0
        for name, shape in re.findall(r"^(\S+) \(([\d, ]*)\) (?:trainable|statistic) ", text, re.M):
            elements = math.prod(int(size) for size in shape.split(",") if size.strip())
            found[name] = (offset, elements)
            offset += (elements + 15) // 16 * 16
        return found

    def expect_result(self, expected):
        found = self.hash()
        expect(found is not None, "no hash:\n" + self.text())
        expect(found == expected, f"another result: {found}, expected {expected}")
        done = self.supersteps_in_log()
        expect(done == list(range(1, self.supersteps + 1)), "supersteps are missing or there twice")

    def expect_clean(self, pids=(), seconds=0.0):
        deadline = time.monotonic() + seconds
        while [pid for pid in pids if is_alive(pid)] and time.monotonic() < deadline:
            time.sleep(0.02)
        orphans = [pid for pid in pids if is_alive(pid)]
        expect(not orphans, f"orphans: {orphans}")
        self.jobs |= {line["mpi_job"] for line in self.attempts() if line["mpi_job"]}
        left = leftovers(self.jobs)
        sessions = sorted(path.name for path in self.sessions.iterdir())
        expect(not left and not sessions, f"leftovers: {left} {sessions}")
