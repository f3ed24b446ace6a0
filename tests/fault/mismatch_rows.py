"""The row in which one rank begins with something else than the others."""

import os
import pathlib
import random
import re
import shutil
import subprocess
import time

from data_rows import IDX_CONFIG, write_idx_files
from job import MPIRUN_OPTIONS, expect
from row import Row

SETTINGS = {  # key -> what one rank has; the others have what CONFIG and the defaults say
    "train.seed": "2", "train.epochs": "31", "train.global_batch": "24", "train.microbatches": "6",
    "train.evaluation_batch": "15", "train.max_supersteps": "7", "data.seed": "2", "data.num_train": "76",
    "data.shuffle": "false", "data.normalization": "unit", "data.noise": "0.25", "optimizer.kind": "sgd",
    "optimizer.learning_rate": "0.02", "optimizer.weight_decay": "0.001", "optimizer.clip_global_norm": "1",
    "optimizer.schedule.kind": "cosine", "checkpoint.every_supersteps": "5", "check.bad_numbers": "skip",
    "check.parameters_every_updates": "7", "check.recompute_gradients": "0.5",
}
# The environment of one rank.
VARIABLES = ("GLIBC_TUNABLES=glibc.malloc.arena_max=2", "ONEDNN_MAX_CPU_ISA=AVX2", "DNNL_VERBOSE=0")


class OtherBeginnings(Row):
    name = "F9"
    fault = ("one of 3 ranks has another setting (" + ", ".join(SETTINGS) + "), model, data, initial weights, program "
             "(commit, instruction set), MPI library or environment")
    promise = "refused in 5 s with exit code 5, before anything is written; field, rank and both values named"
    quick = 3
    seconds = 1.0

    def __init__(self, program, directory):
        super().__init__(program, directory)
        self.cases = ([(self.setting, key) for key in SETTINGS] + [(self.variable, text) for text in VARIABLES] +
                      [(self.built_in, what) for what in ("commit", "instruction set")] +
                      [(self.model, ""), (self.data, "images"), (self.data, "labels"), (self.weights, ""),
                       (self.mpi_library, "")])

    def total(self):
        return len(self.cases)

    def trial(self, seed):
        make, argument = self.cases[(seed * 5) % len(self.cases)]
        return make(argument, random.Random(seed).randrange(3))

    # One rank's [words before the program, the program, its configuration, words after] and the others'.

    def start(self, culprit, other, usual=None):
        job = self.made
        usual = {"before": [], "program": self.program, "config": job.config, "after": [], **(usual or {})}
        command = ["mpirun", *MPIRUN_OPTIONS]
        for rank in range(3):
            words = {**usual, **other} if rank == culprit else usual
            command += [":"] if rank > 0 else []
            command += ["-n", "1", *words["before"], str(words["program"]), "train", str(words["config"]), "--out",
                        str(job.out), *words["after"]]
        job.start(command)
        return job

    def refuse(self, field, culprit, other, usual=None, values=None):
        """`values`: the culprit's and the others', as patterns, where they are known."""
        begin = time.monotonic()
        job = self.start(culprit, other, usual)
        code = job.wait()
        took = time.monotonic() - begin
        what = f"{field} on rank {culprit}: exit code {code} after {took:.1f} s\n{job.text()}"
        got, expected = values or (".*?", ".*?")
        ranks = rf"\{{{culprit}\}}"
        if culprit == 0:  # what rank 0 has is what is expected
            got, expected, ranks = expected, got, r"\{1, 2\}"
        found = re.search(rf'{re.escape(field)} is not the same on all ranks: got "({got})" on ranks {ranks}, expected '
                          rf'"({expected})" as on rank 0', job.text(), re.S)
        expect(code == 5 and found is not None and found.group(1) != found.group(2), what)
        expect(took < 5, what)
        expect(not job.out.exists(), "something was written: " + what)
        return {"seconds until refused": took}

    def setting(self, key, culprit):
        self.made = self.job("trial")
        return self.refuse(f"configuration key '{key}'", culprit, {"after": ["--set", f"{key}={SETTINGS[key]}"]},
                           values=(f'"?{re.escape(SETTINGS[key])}(?:\\.0)?"?', ".*?"))

    def variable(self, text, culprit):
        self.made = self.job("trial")
        return self.refuse("environment variables that change numbers", culprit, {"before": ["env", text]},
                           values=(re.escape(text), ""))

    def model(self, _, culprit):
        self.made = self.job("trial")
        other = self.made.directory / "other.toml"
        other.write_text(self.made.config.read_text().replace("filters = 4", "filters = 5"))
        return self.refuse("model", culprit, {"config": other})

    def data(self, which, culprit):
        """The same paths, as on hosts with disks of their own: one has another byte."""
        self.made = self.job("trial", config=IDX_CONFIG)
        directories = [self.made.directory / name for name in ("usual", "other")]
        for directory in directories:
            write_idx_files(directory)
        file = directories[1] / ("train-images-idx3-ubyte" if which == "images" else "train-labels-idx1-ubyte")
        content = bytearray(file.read_bytes())
        content[-1] = (content[-1] + 1) % 3
        file.write_bytes(content)
        usual, other = ({"after": ["--set", f"data.directory={path}"]} for path in directories)
        return self.refuse("data", culprit, other, usual)

    def weights(self, _, culprit):
        self.made = self.job("trial")
        words = []
        for name in ("usual", "other"):
            path = self.made.directory / f"{name}.npz"
            path.write_text(name)  # compared before it is read
            words.append({"after": ["--set", f"train.warm_start={path}"]})
        return self.refuse("content of train.warm_start", culprit, words[1], words[0],
                           values=("xxh3:[0-9a-f]{32}", "xxh3:[0-9a-f]{32}"))

    def built_in(self, what, culprit):
        """A copy of the program that says something else of itself."""
        self.made = self.job("trial")
        version = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout
        pattern = {"commit": r"\(([0-9a-f]{12}[^)]*)\)", "instruction set": r"^instruction set: (.*)$"}[what]
        usual = re.search(pattern, version, re.M).group(1)
        other = usual[:-1] + "?"
        program = self.made.directory / "superstep"
        self.patch(pathlib.Path(self.program), program, usual, other)
        return self.refuse(what, culprit, {"program": program}, values=(re.escape(other), re.escape(usual)))

    def mpi_library(self, _, culprit):
        self.made = self.job("trial")
        listing = subprocess.run(["ldd", self.program], capture_output=True, text=True, check=True).stdout
        library = pathlib.Path(re.search(r"libmpi\.so\.40 => (\S+)", listing).group(1))
        self.patch(library, self.made.directory / library.name, ", package: %s", ", pakkage: %s")
        return self.refuse("MPI library", culprit,
                           {"before": ["env", f"LD_LIBRARY_PATH={self.made.directory}"]},
                           values=(r"Open MPI v4[^\n]*pakkage[^\n]*?", r"Open MPI v4[^\n]*?"))

    @staticmethod
    def patch(source, target, old, new):
        content = source.read_bytes()
        expect(content.count(old.encode()) > 0, f'"{old}" is not in {source}')
        target.write_bytes(content.replace(old.encode(), new.encode()))
        shutil.copymode(source, target)
        os.utime(target)


class OtherRuntime(OtherBeginnings):
    """What is compared by processes, before ranks exist, and what need not be the same."""
    name = "F9b"
    fault = "one of 3 ranks has another deadline of syncs, or another OMP_NUM_THREADS"
    promise = "the deadline: refused with exit code 2 and both values, nothing written; threads: same bits"
    quick = 0

    def __init__(self, program, directory):
        super().__init__(program, directory)
        self.cases = [(case, "") for case in (self.deadline, self.threads) for _ in range(3)]

    def trial(self, seed):
        case, _ = self.cases[seed % len(self.cases)]
        self.made = self.job("trial")
        return case(seed % 3)

    def deadline(self, culprit):
        job = self.start(culprit, {"after": ["--set", "bsp.sync_deadline_seconds=30"]})
        code = job.wait()
        what = f"exit code {code}\n{job.text()}"
        expect(code == 2 and "different options" in job.text(), what)
        expect("30000 ms" in job.text() and "60000 ms" in job.text() and not job.out.exists(), what)
        return {"refused": 1}

    def threads(self, culprit):
        """Not a mismatch: the program chooses the number of kernel threads itself."""
        expected = self.reference()
        job = self.start(culprit, {"before": ["env", "OMP_NUM_THREADS=2"]})
        expect(job.wait() == 0, job.text())
        job.expect_result(expected)
        return {"same bits": 1}
