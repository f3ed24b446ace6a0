#!/usr/bin/env python3
"""Runs the built program end to end: program_test.py PROGRAM GROUP

A group is one of the classes below and one ctest entry; everything runs on small data in a temporary
directory. `program_test.py PROGRAM --groups a b c` checks that these are all the groups there are, so that
none is forgotten in the list of ctest entries. Python's standard library only.
"""

import gzip
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

PROGRAM = ""
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none"]
# More ranks than cores, as any user, and without spinning; the number of kernel threads is the program's.
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
ENVIRONMENT.pop("OMP_NUM_THREADS", None)
SOURCE = pathlib.Path(__file__).resolve().parents[2]

# Batch normalisation, dropout and an uneven last batch: 75 samples in batches of 20.
CONFIG = """
[data]
format = "synthetic"
num_train = 75
num_test = 30
sample_shape = [1, 6, 6]
num_classes = 3

[train]
epochs = 3
global_batch = 20
microbatches = 8
evaluation_batch = 16

[optimizer]
kind = "adam"
learning_rate = 0.01
clip_global_norm = 1.0

[checkpoint]
every_supersteps = 4
keep = 10

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


class Outcome:
    def __init__(self, process):
        self.code = process.returncode
        self.stdout = process.stdout
        self.text = process.stdout + process.stderr

    def hash(self):
        found = re.search(r"^final: test_accuracy=\d\.\d{4,} test_loss=\d+\.\d+ "
                          r"parameters_hash=(xxh3:[0-9a-f]{32})$", self.stdout, re.M)
        return found.group(1) if found else None


class ProgramTest(unittest.TestCase):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="superstep-program-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.config = self.write("run.toml", CONFIG)
        self.count = 0

    def write(self, name, content):
        path = self.directory / name
        if isinstance(content, str):
            content = content.encode()
        path.write_bytes(content)
        return str(path)

    def run_program(self, *arguments, mpirun=(), env=None, timeout=100):
        command = [*mpirun, PROGRAM, *map(str, arguments)]
        process = subprocess.run(command, cwd=self.directory, capture_output=True, text=True,
                                 timeout=timeout, env={**ENVIRONMENT, **(env or {})}, check=False)
        return Outcome(process)

    def train(self, *arguments, out=None, **options):
        self.count += 1
        out = out or self.directory / f"run{self.count}"
        return self.run_program("train", self.config, "--out", out, *arguments, **options)

    def expect_failure(self, outcome, code, pattern):
        self.assertEqual(outcome.code, code, outcome.text)
        self.assertRegex(outcome.text, pattern)


def idx(magic, sizes, values):
    return struct.pack(f">{1 + len(sizes)}I", magic, *sizes) + bytes(values)


def idx_files(num=24, size=6, classes=3):
    """File names and contents of a small IDX data set: class k is bright in row k."""
    files = {}
    for part, count in (("train", num), ("t10k", num // 2)):
        labels = [i % classes for i in range(count)]
        pixels = []
        for i, label in enumerate(labels):
            for row in range(size):
                pixels += [(200 if row == label else 0) + (7 * i + 13 * row + column) % 40
                           for column in range(size)]
        files[f"{part}-images-idx3-ubyte"] = idx(0x803, [count, size, size], pixels)
        files[f"{part}-labels-idx1-ubyte"] = idx(0x801, [count], labels)
    return files


IDX_CONFIG = """
[model]
preset = "softmax_regression"
[data]
directory = "DIRECTORY"
num_classes = 3
[train]
global_batch = 6
microbatches = 2
"""


class BadInput(ProgramTest):
    """Every row is refused before any work, with one clear message and no run directory."""

    def expect_refusal(self, outcome, code, pattern, out):
        self.expect_failure(outcome, code, pattern)
        self.assertFalse(out.exists(), f"{out} was made")
        self.assertEqual(len(re.findall(pattern, outcome.text)), 1, outcome.text)

    def test_configuration_mistakes(self):
        rows = [
            ("epochs = 3", "epoch = 3", r"run\.toml:10:1: key 'train\.epoch' is unknown; did you mean 'train\.epochs'\?"),
            ("epochs = 3", "epochs = 'x'", r"run\.toml:10:10: key 'train\.epochs' has the wrong type"),
            ("epochs = 3", "epochs = 0", r"run\.toml:10:10: key 'train\.epochs' is out of range"),
            ("epochs = 3", "epochs = 3\nepochs = 4", r"run\.toml:11:\d+: this is not TOML"),
            ("[train]", "[tarin]", r"section 'tarin' is unknown; did you mean 'train'\?"),
            ("[train]", "[train", r"run\.toml:9:\d+: this is not TOML"),
            ('kind = "adam"', 'kind = "adan"', r"did you mean \"adam\"\?"),
            ("learning_rate = 0.01", "learning_rate = nan", r"'optimizer\.learning_rate' is out of range: got nan"),
            ("microbatches = 8", "microbatches = 21", r"'train\.microbatches' = 21 exceeds 'train\.global_batch' = 20"),
            ('kind = "dropout"', 'kind = "droput"', r"run\.toml:\d+.*droput"),
            ("filters = 4", "filterz = 4", r"run\.toml:\d+.*filterz"),
            ("units = 3", "units = 4", r"run\.toml:36:\d+: output of the last layer: got \(4\), expected \(3\)"),
            ("sample_shape = [1, 6, 6]", "sample_shape = [6]", r"run\.toml:24:\d+: layer 1 \(conv1\): shape of its input: got \(6\)"),
            ('kind = "conv2d"\nfilters = 4', 'kind = "residual"\nbody = [{kind = "relu"}, {kind = "conv2d", filters = 4, stride = 9, padding = "valid"}, '
             '{kind = "conv2d", filters = 2, kernel = 9, padding = "valid"}]', r"run\.toml:26:\d+: layer 1 \(residual1\), layer 3 \(conv2\): window larger"),
        ]
        for old, new, pattern in rows:
            with self.subTest(new=new):
                self.assertIn(old, CONFIG)
                self.config = self.write("run.toml", CONFIG.replace(old, new))
                out = self.directory / "out"
                self.expect_failure(self.train(out=out), 2, pattern)
                self.assertFalse(out.exists())

    def test_flags(self):
        rows = [
            (["--set", "train.epoch=2"], r"--set train\.epoch=2: key 'train\.epoch' is unknown; did you mean 'train\.epochs'\?"),
            (["--set", "train.epochs=0"], r"--set train\.epochs=0: key 'train\.epochs' is out of range"),
            (["--set", "train.epochs"], r"expected section\.key=value"),
            (["--lanes", "0"], r"--lanes"),
            (["--lanes", "9"], r"more ranks than slots: got 9 ranks .* expected at most 'train\.microbatches' = 8"),
            (["--lanes", "2", "--set", "bsp.lanes=3"], r"'bsp\.lanes' is given twice: by --lanes 2 and by --set bsp\.lanes=3"),
            (["--set", "train.epochs=99999999999999999999"], r"--set train\.epochs=9{20}: the value is not TOML: .*integer"),
            (["--set", "data.num_classes=2147483647"], r"'data\.num_classes' is out of range: got 2147483647.*256"),
            (["--lane", "2"], r"did you mean \"--lanes\"\?"),
            (["--set", "train.warm_start=missing.npz"], r"'train\.warm_start' = \"missing\.npz\": no such file"),
            (["--resume"], r"no such directory"),
        ]
        for flags, pattern in rows:
            with self.subTest(flags=flags):
                out = self.directory / "out"
                self.expect_refusal(self.train(*flags, out=out), 2, pattern, out)

    def test_empty_paths_and_unknown_commands(self):
        for arguments, pattern in ((("train", self.config, "--out", ""), r"--out: got an empty path"),
                                   (("inspect", ""), r"path: got an empty path"),
                                   (("tran", self.config), r"unknown command 'tran'; did you mean \"train\"\?"),
                                   (("frobnicate",), r"unknown command 'frobnicate' \(superstep --help"),
                                   ((), r"[Ss]ubcommand is required")):
            with self.subTest(arguments=arguments):
                self.expect_failure(self.run_program(*arguments), 2, pattern)
        self.assertFalse((self.directory / "runs").exists())

    def test_all_mistakes_are_named_at_once(self):
        outcome = self.train("--set", "train.epoch=2", "--set", "optimizer.kind=x", "--set", "bsp.lanes=0")
        self.expect_failure(outcome, 2, r"3 problems")

    def test_a_missing_configuration(self):
        outcome = self.run_program("train", "missing.toml")
        self.expect_failure(outcome, 2, r"missing\.toml")

    def test_a_missing_data_directory_is_named_with_its_line(self):
        self.config = self.write("idx.toml", IDX_CONFIG.replace("DIRECTORY", "/nonexistent"))
        self.expect_failure(self.train(), 2,
                            r"idx\.toml:5:13: 'data\.directory' = \"/nonexistent\": no such directory")

    def test_bad_data_files(self):
        good = idx_files()
        images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
        rows = [
            (images, good[images][:-1], r"truncated|end"),
            (images, good[images] + b"x", r"trailing|extra|more"),
            (images, b"\0\0\x08\x02" + good[images][4:], r"train-images-idx3-ubyte"),
            (images, good[labels], r"train-images-idx3-ubyte"),
            (labels, good[labels][:-1] + b"\3", r"label"),
            (labels, idx(0x801, [23], [0] * 23), r"23"),
            (images, b"<html>not found</html>", r"train-images-idx3-ubyte"),
            (images, None, r"train-images-idx3-ubyte"),
        ]
        for name, content, pattern in rows:
            with self.subTest(name=name, content=content and content[:8]):
                data = self.directory / "data"
                shutil.rmtree(data, ignore_errors=True)
                data.mkdir()
                for file, bytes_of_file in {**good, name: content}.items():
                    if bytes_of_file is not None:
                        (data / file).write_bytes(bytes_of_file)
                self.config = self.write("idx.toml", IDX_CONFIG.replace("DIRECTORY", str(data)))
                out = self.directory / "out"
                self.expect_failure(self.train(out=out), 3, pattern)
                self.assertFalse(out.exists())

    def test_more_ranks_than_slots_under_mpirun(self):
        out = self.directory / "out"
        outcome = self.train("--set", "train.microbatches=2", out=out, mpirun=[*MPIRUN, "-n", "3"])
        self.expect_refusal(outcome, 2, r"more ranks than slots: got 3 ranks", out)

    def test_too_little_shared_memory(self):
        """The ranks of a node meet in /dev/shm; a container's is small, and full it would be a bus error."""
        wide = CONFIG.replace('kind = "dense"', 'kind = "dense"\nunits = 65536\n[[model.layers]]\nkind = "dense"')
        self.config = self.write("wide.toml", wide)
        # In a chroot the root directory is no mount point whose propagation could be changed.
        small = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c",
                 'mount --make-rprivate / 2>/dev/null || mount --make-private /dev/shm; '
                 'mount -t tmpfs -o size=24m tmpfs /dev/shm && exec "$@"', "sh"]
        if os.geteuid() != 0:
            small[1:1] = ["--user", "--map-root-user"]
        out = self.directory / "out"
        outcome = self.train(out=out, mpirun=[*small, *MPIRUN, "-n", "2"])
        self.expect_failure(outcome, 2, r"too little shared memory in /dev/shm: got \d+ bytes free .*, needed \d+ bytes")
        self.assertFalse(out.exists())

    def test_a_message_is_printed_once_for_all_processes(self):
        outcome = self.train("--set", "train.epoch=2", mpirun=[*MPIRUN, "-n", "3"])
        self.expect_failure(outcome, 2, r"key 'train\.epoch' is unknown")
        self.assertEqual(outcome.text.count("is unknown"), 1, outcome.text)

    def test_paths_that_cannot_be_looked_at(self):
        long = "x" * 300
        loop = self.directory / "loop"
        loop.symlink_to(loop)
        self.config = self.write("idx.toml", IDX_CONFIG.replace("DIRECTORY", str(loop)))
        rows = [(("inspect", long), r"\[inspect\] x+: cannot be looked at: File name too long"),
                (("inspect", loop), r"\[inspect\] .*loop: cannot be looked at: Too many levels"),
                (("evaluate", long), r"x+: cannot be looked at"),
                (("export", loop / "run"), r"loop/run\S*: cannot be looked at"),
                (("train", self.config), r"idx\.toml:5:13: 'data\.directory' = .*loop\": cannot be looked at"),
                (("train", self.config, "--set", f"data.directory={long}"), r"--set data\.directory=x+: .*too long")]
        for arguments, pattern in rows:
            with self.subTest(arguments=arguments):
                outcome = self.run_program(*arguments)
                self.expect_failure(outcome, 2, pattern)
                self.assertNotIn("filesystem error", outcome.text)

    def test_layers_of_impossible_size(self):
        for member in ("kernel", "stride", "dilation"):
            with self.subTest(member=member):
                text = CONFIG.replace("filters = 4", f"filters = 4\n{member} = 9223372036854775807")
                self.config = self.write("run.toml", text)
                out = self.directory / "out"
                self.expect_refusal(self.train(out=out), 2, r"run\.toml:\d+: .*%s: got 9223372036854775807" % member, out)

    def test_data_larger_than_the_machine(self):
        out = self.directory / "out"
        self.expect_refusal(self.train("--set", "data.num_train=1000000000000", out=out), 2,
                            r"--set data\.num_train=1000000000000: 'data\.num_train' = 1000000000000: "
                            r"1000000000030 samples of 36 values need \d+ bytes", out)

    def test_a_warm_start_that_is_no_number(self):
        first = self.directory / "first"
        self.assertEqual(self.train("--set", "train.max_supersteps=1", out=first).code, 0)
        self.assertEqual(self.run_program("export", first, "--output", "weights.npz").code, 0)
        with zipfile.ZipFile(self.directory / "weights.npz") as archive:
            members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
        rows = [("batch_norm1/running_variance.npy", -1.0, 3, "non-negative"),
                ("dense1/bias.npy", float("nan"), 2, "finite")]
        for name, value, last, pattern in rows:
            with self.subTest(name=name), zipfile.ZipFile(self.directory / "bad.npz", "w") as archive:
                for member, content in members.items():
                    end = content[:-4] + struct.pack("<f", value) if member == name else content
                    archive.writestr(member, bytes(end))
            out = self.directory / "out"
            outcome = self.train("--set", "train.warm_start=bad.npz", out=out)
            self.expect_refusal(outcome, 4, r"bad\.npz: entry %s, value %d: got \S+, expected .*%s"
                                % (name[:-4], last, pattern), out)

    def test_ranks_with_different_configurations(self):
        other = self.write("other.toml", CONFIG.replace("learning_rate = 0.01", "learning_rate = 0.02"))
        out = self.directory / "out"
        outcome = self.run_program(
            "train", self.config, "--out", out, ":", "-n", "1", PROGRAM, "train", other, "--out", out,
            mpirun=[*MPIRUN, "-n", "1"])
        self.expect_failure(outcome, 5, r"optimizer\.learning_rate")
        self.assertIn("0.01", outcome.text)
        self.assertIn("0.02", outcome.text)
        self.assertFalse(out.exists())

    def test_ranks_that_would_compute_differently(self):
        out = self.directory / "out"
        words = ["train", self.config, "--out", out]
        outcome = self.run_program(*words, ":", "-n", "1", "env", "ONEDNN_MAX_CPU_ISA=AVX2", PROGRAM, *words,
                                   mpirun=[*MPIRUN, "-n", "1"])
        self.expect_failure(outcome, 5, r"environment variables that change numbers is not the same on all ranks: got "
                                        r"\"ONEDNN_MAX_CPU_ISA=AVX2\" on ranks \{1\}, expected \"\" as on rank 0")
        self.assertFalse(out.exists())

    def test_processes_that_do_not_know_of_each_other(self):
        for variable, name in (("SLURM_STEP_NUM_TASKS", "srun"), ("PMI_SIZE", "the mpirun of another MPI")):
            with self.subTest(variable=variable):
                out = self.directory / "out"
                outcome = self.train(out=out, env={variable: "4"})
                self.expect_refusal(outcome, 2, rf"{name} started 4 processes that do not know of each other", out)
        self.assertEqual(self.train("--dry-run", env={"SLURM_STEP_NUM_TASKS": "1", "PMI_SIZE": "x"}).code, 0)

    def test_a_loss_that_is_no_number_ends_the_run(self):
        wild = ("--set", "optimizer.kind=sgd", "--set", "optimizer.learning_rate=1e6",
                "--set", "optimizer.clip_global_norm=0", "--set", "train.epochs=50")
        self.expect_failure(self.train(*wild), 6, r"the (test )?loss (or a gradient )?is no number (at superstep|after epoch) \d+")
        # Without normalisation the parameters themselves run away, and every rank sees it at once.
        layers = ["kind = 'flatten'"] + ["kind = 'dense'\nunits = 30"] * 2 + ["kind = 'dense'\nunits = 3"]
        self.config = self.write("wild.toml", CONFIG[:CONFIG.index("[[model")] +
                                 "".join(f"[[model.layers]]\n{layer}\n" for layer in layers))
        for options in ({}, {"mpirun": [*MPIRUN, "-n", "2"]}):
            with self.subTest(**options):
                self.expect_failure(self.train(*wild, **options), 6, r"the loss or a gradient is no number at superstep \d+ .*: rank \d, slot \d: ")


class Bench(ProgramTest):
    """The figures are those of a run that took place: they agree with each other."""

    def bench(self, *arguments, **options):
        outcome = self.run_program("bench", "--steps", "3", *arguments, **options)
        self.assertEqual(outcome.code, 0, outcome.text)
        return outcome

    def expect_consistent(self, found, ranks):
        self.assertEqual(found["ranks"], ranks)
        self.assertGreater(found["peak_gflops_per_core"], 0.5)
        self.assertAlmostEqual(found["share_of_peak"] * ranks * found["peak_gflops_per_core"],
                               found["gflops_per_second"], delta=1e-3 * found["gflops_per_second"])
        step = found["step_seconds"]
        parts = [step[key] for key in ("compute", "input_wait", "exchange", "update", "sync", "other")]
        self.assertTrue(all(part >= -1e-9 for part in parts), step)
        self.assertAlmostEqual(sum(parts), step["total"], delta=1e-6)
        self.assertGreater(step["compute"], 0)
        # The slowest rank's time between steps is at least the mean step.
        samples = found["batch_per_rank"] * ranks
        self.assertLess(found["samples_per_second"], 1.05 * samples / step["total"])

    def test_models_and_worlds(self):
        rows = [(["--model", "mlp", "--profile"], 1, {}),
                (["--model", "cnn", "--batch", "8", "--microbatches", "5", "--lanes", "2"], 2, {}),
                (["--model", "resnet20", "--batch", "4"], 2, {"mpirun": [*MPIRUN, "-n", "2"]})]
        for arguments, ranks, options in rows:
            with self.subTest(arguments=arguments):
                found = json.loads(self.bench("--json", *arguments, **options).stdout)
                self.expect_consistent(found, ranks)
                if "--profile" in arguments:
                    self.assertTrue(any("matmul" in op["op"] for op in found["profile"]))
                    self.assertTrue(all(op["seconds"] > 0 for op in found["profile"]))

    def test_text(self):
        outcome = self.bench("--model", "mlp", "--profile")
        self.assertRegex(outcome.stdout, r"mlp: 199210 parameters, batch 64 per rank")
        self.assertRegex(outcome.stdout, r"(?m)^samples_per_second \d+\.\d$")
        self.assertRegex(outcome.stdout, r"compute \d+\.\d+, input wait")
        self.assertRegex(outcome.stdout, r"matmul\(float32 \(64, 784\)")

    def test_what_cannot_be_measured_is_refused(self):
        rows = [(["--microbatches", "65"], r"--microbatches: got 65, expected .* the global batch, 64"),
                (["--lanes", "3", "--microbatches", "2"], r"--microbatches: got 2, .* number of ranks, 3"),
                (["--model", "lenet"], r"--model"), (["--batch", "0"], r"--batch"), (["--steps", "-1"], r"--steps")]
        for arguments, pattern in rows:
            with self.subTest(arguments=arguments):
                self.expect_failure(self.run_program("bench", *arguments), 2, pattern)


class InvarianceTest(ProgramTest):
    """One parameters_hash for every shape of the world."""

    def hash_of(self, *arguments, **options):
        outcome = self.train(*arguments, **options)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertIsNotNone(outcome.hash(), outcome.text)
        return outcome.hash()

    def expect_same(self, rows):
        expected = self.hash_of()
        for arguments, options in rows:
            with self.subTest(arguments=arguments, **options):
                self.assertEqual(self.hash_of(*arguments, **options), expected)


class LanesInvariance(InvarianceTest):
    def test_lanes(self):
        self.expect_same([(["--lanes", n], {}) for n in ("2", "3", "8")])

    def test_nodes_of_lanes(self):
        self.expect_same([(["--set", "bsp.ranks_per_node=1", "--lanes", "3"], {}),
                          (["--set", "bsp.ranks_per_node=2", "--lanes", "4"], {})])

    def test_placement_buckets_and_prefetch(self):
        random = "train.slot_placement=random"
        self.expect_same([
            (["--set", random, "--lanes", "3"], {}),
            (["--set", random, "--set", "bsp.ranks_per_node=1", "--lanes", "4"], {}),
            (["--set", "train.slot_placement=measured", "--lanes", "2"], {}),
            (["--set", "train.slot_placement=stealing", "--lanes", "3"], {}),
            (["--set", "train.slot_placement=stealing", "--set", "bsp.ranks_per_node=2",
              "--lanes", "4"], {}),
            (["--set", "server.bucket_bytes=4096", "--lanes", "2"], {}),
            (["--set", "train.prefetch_depth=7"], {}),
        ])

    def test_thread_counts_of_the_environment(self):
        self.expect_same([(["--lanes", "2"], {"env": {"OMP_NUM_THREADS": "2"}})])

    def test_other_seeds_give_other_bits(self):
        self.assertNotEqual(self.hash_of(), self.hash_of("--set", "train.seed=2"))


class ProcessesInvariance(InvarianceTest):
    def test_processes(self):
        self.expect_same([([], {"mpirun": [*MPIRUN, "-n", n]}) for n in ("1", "2", "3", "4")])

    def test_mixed_worlds_and_nodes(self):
        self.expect_same([
            (["--lanes", "2"], {"mpirun": [*MPIRUN, "-n", "2"]}),
            (["--set", "bsp.ranks_per_node=1"], {"mpirun": [*MPIRUN, "-n", "3"]}),
            (["--set", "bsp.ranks_per_node=2", "--lanes", "2"], {"mpirun": [*MPIRUN, "-n", "2"]}),
        ])

    def test_binding_mapping_and_thread_counts(self):
        self.expect_same([
            ([], {"mpirun": ["mpirun", "--oversubscribe", "-n", "2"]}),
            ([], {"mpirun": ["mpirun", "--oversubscribe", "--map-by", "node", "-n", "3"]}),
            ([], {"mpirun": [*MPIRUN, "-n", "2"], "env": {"OMP_NUM_THREADS": "2"}}),
            (["--set", "train.slot_placement=random"], {"mpirun": [*MPIRUN, "-n", "3"]}),
            (["--set", "train.slot_placement=stealing"], {"mpirun": [*MPIRUN, "-n", "2"]}),
        ])


class ResumeTest(ProgramTest):
    LONG = ("--set", "train.epochs=80")

    def wait_for_superstep(self, out, superstep, process):
        """Until metrics.jsonl has the superstep, so that a kill comes in the middle."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            metrics = out / "metrics.jsonl"
            if metrics.exists() and f'"superstep":{superstep},' in metrics.read_text():
                return
            self.assertIsNone(process.poll(), "the program ended before it was stopped")
            time.sleep(0.01)
        self.fail(f"superstep {superstep} was not reached")

    def start(self, out, *arguments, mpirun=()):
        return subprocess.Popen([*mpirun, PROGRAM, "train", self.config, "--out", str(out), *arguments],
                                cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=ENVIRONMENT)

    def paste(self, command, env=None):
        """The command as a person would run it."""
        return Outcome(subprocess.run(["bash", "-c", command], cwd=self.directory, capture_output=True, text=True,
                                      timeout=100, env=env or ENVIRONMENT, check=False))

    @staticmethod
    def ranks_of(process):
        listing = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(process.pid)],
                                 capture_output=True, text=True, check=True)
        return [int(line.split()[0]) for line in listing.stdout.splitlines() if "superstep" in line]

    def supersteps_of(self, out):
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [line["superstep"] for line in lines if line["type"] == "superstep"]


class ResumeAfterFaults(ResumeTest):
    def test_after_kill_9_of_one_rank_on_other_rank_counts(self):
        expected = self.train(*self.LONG).hash()
        self.assertIsNotNone(expected)
        out = self.directory / "killed"
        process = self.start(out, *self.LONG, mpirun=[*MPIRUN, "-n", "3"])
        self.wait_for_superstep(out, 50, process)
        os.kill(self.ranks_of(process)[1], signal.SIGKILL)
        process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertFalse((out / "summary.json").exists())
        outcome = self.train("--resume", *self.LONG, out=out, mpirun=[*MPIRUN, "-n", "2"])
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertEqual(outcome.hash(), expected)
        self.assertEqual(self.supersteps_of(out), list(range(1, 321)))
        summary = json.loads((out / "summary.json").read_text())
        self.assertGreaterEqual(summary["progress"]["resumed_from_superstep"], 48)
        starts = json.loads((out / "provenance.json").read_text())["starts"]
        self.assertEqual([start["ranks"] for start in starts], [3, 2])

    def test_a_damaged_checkpoint_is_skipped_for_the_one_before(self):
        expected = self.train().hash()
        out = self.directory / "run"
        self.assertEqual(self.train(out=out).code, 0)
        newest = max((out / "checkpoints").glob("step-*"))
        file = next(newest.glob("parameters*"))
        content = bytearray(file.read_bytes())
        content[100] ^= 1
        file.write_bytes(content)
        outcome = self.train("--resume", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertRegex(outcome.text, r"skipped a checkpoint")
        self.assertEqual(outcome.hash(), expected)


class Failures(ResumeTest):
    """What ends a training from outside is named once, with the way on."""

    def test_a_checkpoint_that_cannot_be_written_names_the_newest_and_how_to_go_on(self):
        out = self.directory / "run"
        process = subprocess.Popen([PROGRAM, "train", self.config, "--out", str(out), "--set", "data.num_train=40000",
                                    "--set", "train.log_every_supersteps=1000000", "--set", "train.epochs=50"],
                                   env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   restore_signals=False)  # SIGXFSZ stays ignored
        while process.poll() is None and not list(out.glob("checkpoints/step-0000004?")):
            time.sleep(0.01)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, stdout + stderr)
        self.assertRegex(stderr, r"File too large[\s\S]*the newest checkpoint is .*/step-\d{8}\nto continue:\n"
                                 r"  \S*superstep train .* --resume")
        self.assertLessEqual(stderr.count("[write_checkpoint]"), 1, stderr)

    def test_a_rank_that_does_not_arrive_names_the_key_and_the_way_on(self):
        out = self.directory / "run"
        process = self.start(out, *self.LONG, "--set", "bsp.sync_deadline_seconds=3", mpirun=[*MPIRUN, "-n", "2"])
        self.wait_for_superstep(out, 20, process)
        os.kill(self.ranks_of(process)[1], signal.SIGSTOP)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, stdout + stderr)
        self.assertRegex(stderr, r"ranks \{1\} did not arrive[\s\S]*raise bsp\.sync_deadline_seconds \(now 3\)\n"
                                 r"the newest checkpoint is .*\nto continue:\n  mpirun .*-n 2 \S*superstep train .*--resume")
        self.assertNotRegex(stderr, re.escape(str(SOURCE)) + r"/(bsp|paramserver|worker|cluster)/")

    def test_a_run_directory_that_was_removed_ends_the_run(self):
        for mpirun in ((), [*MPIRUN, "-n", "2"]):
            with self.subTest(mpirun=mpirun):
                out = self.directory / f"run{len(mpirun)}"
                process = self.start(out, *self.LONG, mpirun=mpirun)
                self.wait_for_superstep(out, 20, process)
                out.rename(self.directory / f"elsewhere{len(mpirun)}")
                stdout, stderr = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 1, stdout + stderr)
                self.assertRegex(stderr, r"run%d: no such directory: it was removed or renamed|"
                                 r"No such file or directory" % len(mpirun))
                self.assertNotIn("final:", stdout)
                self.assertFalse(out.exists())


class Signals(ResumeTest):
    def test_signals_end_with_a_checkpoint_and_the_command_that_continues(self):
        expected = self.train(*self.LONG).hash()
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            with self.subTest(signal=number):
                out = self.directory / f"stopped{int(number)}"
                process = self.start(out, *self.LONG, "--lanes", "2")
                self.wait_for_superstep(out, 20, process)
                process.send_signal(number)
                stdout, stderr = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 75, stdout + stderr)
                self.assertRegex(stderr, r"stopping after this superstep with a checkpoint; "
                                         r"the newest one on disk is .*step-\d{8}\nto continue:\n  \S*superstep train ")
                command = re.search(r"^  (\S*superstep train .*--resume)$", stdout, re.M)
                self.assertIsNotNone(command, stdout)
                self.assertNotIn("final:", stdout)
                self.assertEqual(json.loads((out / "summary.json").read_text())["exit_reason"], "signal")
                outcome = self.paste(command.group(1))
                self.assertEqual(outcome.code, 0, outcome.text)
                self.assertEqual(outcome.hash(), expected)

    def test_sigusr1_to_mpirun_reaches_every_rank(self):
        out = self.directory / "stopped"
        ranks = os.cpu_count() + 1 if os.cpu_count() < 8 else 2
        process = self.start(out, *self.LONG, mpirun=[*MPIRUN, "-n", str(ranks)])
        self.wait_for_superstep(out, 20, process)
        process.send_signal(signal.SIGUSR1)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, stdout + stderr)
        command = re.search(r"^  (mpirun .*-n %d \S*superstep train .*--resume)$" % ranks, stdout, re.M)
        self.assertIsNotNone(command, stdout)
        # Without what the environment of the tests allows: the command itself has to.
        plain = {name: value for name, value in ENVIRONMENT.items() if name != "OMPI_MCA_rmaps_base_oversubscribe"}
        outcome = self.paste(command.group(1), env=plain)
        self.assertEqual(outcome.code, 0, outcome.text)

    def test_sigterm_to_mpirun_leaves_a_run_that_goes_on(self):
        """mpirun leaves its ranks about a second: whether the last checkpoint fits or not, the run goes on later.

        What the ranks print meanwhile reaches a pipe only sometimes, so it is tested without mpirun above."""
        expected = self.train(*self.LONG).hash()
        out = self.directory / "terminated"
        process = self.start(out, *self.LONG, mpirun=[*MPIRUN, "-n", "2"])
        self.wait_for_superstep(out, 20, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        outcome = self.train("--resume", *self.LONG, out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertEqual(outcome.hash(), expected)

    def test_a_signal_during_setup_stops_in_order(self):
        out = self.directory / "early"
        process = self.start(out, "--set", "data.num_train=5000000")
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, stdout + stderr)
        self.assertRegex(stderr, r"stopped by a signal before the first superstep: nothing was written")
        self.assertFalse(out.exists())

    def test_a_signal_that_was_inherited_as_ignored_stays_so(self):
        out = self.directory / "background"
        process = subprocess.Popen([PROGRAM, "train", self.config, "--out", str(out), *self.LONG], env=ENVIRONMENT,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        self.wait_for_superstep(out, 20, process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, stdout + stderr)
        self.assertIn("final:", stdout)

    def test_wall_time_limit(self):
        out = self.directory / "limited"
        outcome = self.train("--set", "train.epochs=1000000", "--set", "train.wall_time_limit_seconds=1",
                             "--set", "train.log_every_supersteps=1000", out=out)
        self.expect_failure(outcome, 75, r"stopped \(wall_time\) after superstep \d+")


class Resume(ResumeTest):
    def test_limit_of_supersteps_then_more(self):
        expected = self.train().hash()
        out = self.directory / "limited"
        first = self.train("--set", "train.max_supersteps=5", out=out)
        self.assertEqual(first.code, 0, first.text)
        second = self.train("--resume", "--lanes", "3", out=out)
        self.assertEqual(second.code, 0, second.text)
        self.assertEqual(second.hash(), expected)
        self.assertEqual(self.supersteps_of(out), list(range(1, 13)))

    def test_another_length_under_a_schedule_is_warned_about(self):
        warning = r"warning: 'train\.epochs' was 2 and is now 4: the \"cosine\" schedule follows the new length"
        for kind in ("cosine", "constant"):
            with self.subTest(kind=kind):
                out = self.directory / kind
                schedule = ("--set", f"optimizer.schedule.kind={kind}")
                self.assertEqual(self.train(*schedule, "--set", "train.epochs=2", out=out).code, 0)
                resumed = self.train(*schedule, "--resume", "--set", "train.epochs=4", out=out)
                self.assertEqual(resumed.code, 0, resumed.text)
                whole = self.train(*schedule, "--set", "train.epochs=4")
                self.assertEqual(resumed.hash() == whole.hash(), kind == "constant")
                check = self.assertRegex if kind == "cosine" else self.assertNotRegex
                check(resumed.text, warning)

    def test_a_finished_run_says_its_result_again(self):
        out = self.directory / "done"
        first = self.train(out=out)
        again = self.train("--resume", out=out)
        self.assertEqual(again.code, 0, again.text)
        self.assertIsNotNone(first.hash())
        self.assertEqual(again.hash(), first.hash())

    def test_a_run_directory_that_exists_is_refused_with_the_command_that_resumes(self):
        out = self.directory / "run"
        self.assertEqual(self.train(out=out).code, 0)
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        self.expect_failure(self.train(out=out), 2, r"superstep train .*config\.toml --out .* --resume")
        self.assertEqual(before, {path: path.read_bytes() for path in out.rglob("*") if path.is_file()})

    def test_another_configuration_is_refused(self):
        out = self.directory / "run"
        self.assertEqual(self.train(out=out).code, 0)
        self.expect_failure(self.train("--resume", "--set", "optimizer.learning_rate=0.5", out=out), 2,
                            r"'optimizer\.learning_rate' was 0\.01 and is now 0\.5")

    def test_checkpoints_of_another_run_or_model_are_refused(self):
        out, other = self.directory / "run", self.directory / "other"
        self.assertEqual(self.train(out=out).code, 0)
        self.config = self.write("other.toml", CONFIG.replace("filters = 4", "filters = 5"))
        self.assertEqual(self.train(out=other).code, 0)
        shutil.rmtree(other / "checkpoints")
        shutil.copytree(out / "checkpoints", other / "checkpoints")
        self.expect_failure(self.train("--resume", out=other), 4, r"checkpoint of another run")
        provenance = json.loads((out / "provenance.json").read_text())
        theirs = json.loads((other / "provenance.json").read_text())
        theirs["run_id"] = provenance["run_id"]
        (other / "provenance.json").write_text(json.dumps(theirs))
        self.expect_failure(self.train("--resume", out=other), 4, r"conv1/weight")

    def test_two_programs_never_write_to_one_run(self):
        out = self.directory / "run"
        process = self.start(out, *self.LONG)
        self.wait_for_superstep(out, 5, process)
        outcome = self.train("--resume", *self.LONG, out=out)
        process.kill()
        process.communicate()
        self.expect_failure(outcome, 2, r"is in use")


class Streams(ProgramTest):
    """Standard streams that are closed, full, or that nobody reads any more."""

    def shell(self, text):
        return subprocess.run(["bash", "-c", text], cwd=self.directory, capture_output=True, text=True, timeout=100,
                              env={**ENVIRONMENT, "P": PROGRAM, "C": self.config}, check=False)

    def test_closed_streams_do_not_end_up_in_the_files_of_the_run(self):
        self.assertEqual(self.shell('"$P" train "$C" --out run <&- >&- 2>&-').returncode, 0)
        for line in (self.directory / "run" / "metrics.jsonl").read_text().splitlines():
            self.assertIn("type", json.loads(line))

    def test_a_result_that_cannot_be_written_is_a_failure(self):
        for command in ('train "$C" --out run', "keys", "--version"):
            with self.subTest(command=command):
                done = self.shell(f'"$P" {command} > /dev/full')
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertRegex(done.stderr, r"superstep: .*(not written completely|cannot write to file)")

    def test_a_reader_that_goes_away_does_not_end_the_training(self):
        done = self.shell('set -o pipefail; "$P" train "$C" --out run --set train.epochs=40 | head -1')
        self.assertEqual(done.returncode, 0, done.stderr)
        summary = json.loads((self.directory / "run" / "summary.json").read_text())
        self.assertEqual(summary["exit_reason"], "finished")


class Commands(ProgramTest):
    def test_dry_run_says_what_would_happen_and_makes_nothing(self):
        before = set(self.directory.iterdir())
        outcome = self.run_program("train", self.config, "--dry-run", "--lanes", "3")
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertEqual(set(self.directory.iterdir()), before)
        for pattern in (r"world: 3 ranks", r"steps: 4 per epoch .*15 in the last\), 12 in all",
                        r"rank 2 .*slots 5-7", r"parameters, per node +\d+ bytes", r"batch_norm1"):
            self.assertRegex(outcome.stdout, pattern)

    def test_dry_run_counts_data_it_does_not_make(self):
        flags = ["--set", "data.num_train=4000000", "--set", "data.sample_shape=[1, 28, 28]"]
        begin = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        outcome = self.run_program("train", self.config, "--dry-run", *flags)
        self.assertEqual(outcome.code, 0, outcome.text)
        found = re.search(r"data, largest node +(\d+) bytes", outcome.stdout)
        self.assertGreater(int(found.group(1)), 4_000_000 * 785 - 1)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # KiB, of the largest child ever
        self.assertLess(peak, max(begin, 1_000_000))

    def test_dry_run_predicts_the_memory_of_the_run(self):
        for flags in (["--lanes", "1"], ["--lanes", "3"], ["--lanes", "4", "--set", "bsp.ranks_per_node=1"]):
            with self.subTest(flags=flags):
                dry = self.run_program("train", self.config, "--dry-run", *flags).stdout
                predicted = [int(number) for number in re.findall(r"^  \S.*? (\d+) bytes", dry, re.M)]
                out = self.directory / f"run{self.count}"
                self.count += 1
                self.assertEqual(self.train(*flags, out=out).code, 0)
                memory = json.loads((out / "summary.json").read_text())["memory_bytes"]
                self.assertEqual(predicted[:5], [memory["parameters_per_node"], memory["gradients_per_node"],
                                                 memory["exchange_per_node"], memory["optimizer_state_per_world"],
                                                 memory["checkpoint_copy_per_world"]])

    def test_the_resolved_configuration_gives_the_same_run(self):
        out = self.directory / "run"
        expected = self.train(out=out).hash()
        self.assertIsNotNone(expected)
        again = self.run_program("train", out / "config.toml", "--out", self.directory / "again")
        self.assertEqual(again.hash(), expected)
        self.assertEqual((self.directory / "again" / "config.toml").read_text(), (out / "config.toml").read_text())

    def test_a_run_directory_is_named_when_none_is_given(self):
        self.assertEqual(self.run_program("train", self.config).code, 0)
        self.assertEqual(self.run_program("train", self.config).code, 0)
        runs = list((self.directory / "runs").iterdir())
        self.assertEqual(len(runs), 2)
        for run in runs:
            self.assertRegex(run.name, r"^run-\d{8}-\d{6}(-2)?$")

    def make_idx_run(self):
        data = self.directory / "data"
        data.mkdir()
        for name, content in idx_files().items():
            (data / (name + ".gz")).write_bytes(gzip.compress(content))
        self.config = self.write("idx.toml", IDX_CONFIG.replace("DIRECTORY", str(data)))
        out = self.directory / "idx-run"
        outcome = self.train("--set", "train.epochs=20", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        return out, data, outcome

    def test_evaluate_predict_and_inspect_agree_with_training(self):
        out, data, trained = self.make_idx_run()
        final = re.search(r"test_accuracy=\S+ test_loss=\S+", trained.stdout).group(0)
        for mpirun, flags in (((), []), ((), ["--lanes", "2"]), ([*MPIRUN, "-n", "2"], []), ((), ["--data", data])):
            evaluated = self.run_program("evaluate", out, *flags, mpirun=mpirun)
            self.assertEqual(evaluated.code, 0, evaluated.text)
            self.assertIn(final, evaluated.stdout)
            self.assertIn(trained.hash(), evaluated.stdout)
        csv = self.directory / "out.csv"
        predicted = self.run_program("predict", out, "--input", data / "t10k-images-idx3-ubyte.gz", "--output", csv)
        self.assertEqual(predicted.code, 0, predicted.text)
        lines = csv.read_text().splitlines()
        self.assertEqual(lines[0], "index,class,p0,p1,p2")
        rows = [line.split(",") for line in lines[1:]]
        correct = sum(int(row[1]) == i % 3 for i, row in enumerate(rows))
        self.assertIn(f"test_accuracy={correct / len(rows):.4f}", final)
        for row in rows:
            probabilities = list(map(float, row[2:]))
            self.assertAlmostEqual(sum(probabilities), 1.0, places=4)
            self.assertEqual(probabilities.index(max(probabilities)), int(row[1]))
        for path, pattern in ((out, r"a run"), (max((out / "checkpoints").iterdir()), trained.hash()),
                              (out / "config.toml", r"valid configuration"), (data, r"IDX data set"),
                              (data / "train-images-idx3-ubyte.gz", r"images, 24 x 6 x 6"),
                              (data / "t10k-labels-idx1-ubyte.gz", r"labels, 12 bytes, values 0 to 2")):
            inspected = self.run_program("inspect", path)
            self.assertEqual(inspected.code, 0, inspected.text)
            self.assertRegex(inspected.stdout, pattern)

    def test_export_and_warm_start_carry_the_parameters(self):
        out = self.directory / "run"
        trained = self.train(out=out)
        exported = self.run_program("export", out, "--output", "weights.npz")
        self.assertEqual(exported.code, 0, exported.text)
        self.assertIn(trained.hash(), exported.stdout)
        self.assertRegex(self.run_program("inspect", "weights.npz").stdout, r"conv1/weight \(4, 1, 3, 3\)")
        # A learning rate of zero keeps what was loaded, all but the statistics of batch normalisation.
        warm = self.directory / "warm"
        outcome = self.train("--set", "train.warm_start=weights.npz", "--set", "optimizer.learning_rate=0",
                             "--set", "train.max_supersteps=1", out=warm, mpirun=[*MPIRUN, "-n", "2"])
        self.assertEqual(outcome.code, 0, outcome.text)
        self.run_program("export", warm, "--output", "warm.npz")
        members = {}
        for name in ("weights.npz", "warm.npz"):
            with zipfile.ZipFile(self.directory / name) as archive:
                members[name] = {member: archive.read(member) for member in archive.namelist()
                                 if "mean" not in member and "variance" not in member}
        self.assertTrue(members["weights.npz"])
        self.assertEqual(members["weights.npz"], members["warm.npz"])

    def test_an_output_that_exists_is_replaced_only_by_force(self):
        out, data, _ = self.make_idx_run()
        for command in (("export", out), ("predict", out, "--input", data / "t10k-images-idx3-ubyte.gz")):
            with self.subTest(command=command[0]):
                file = self.directory / f"{command[0]}.out"
                file.write_text("mine")
                outcome = self.run_program(*command, "--output", file)
                self.expect_failure(outcome, 2, r"--output .*%s\.out: exists: .*--force" % command[0])
                self.assertEqual(file.read_text(), "mine")
                forced = self.run_program(*command, "--output", file, "--force")
                self.assertEqual(forced.code, 0, forced.text)
                self.assertNotEqual(file.read_bytes(), b"mine")
                self.expect_failure(self.run_program(*command, "--output", self.directory, "--force"), 2, r"not a file")
        self.assertEqual(self.run_program("export", out).code, 0)
        self.expect_failure(self.run_program("export", out), 2, r"parameters\.npz: exists")

    def test_commands_refuse_what_is_no_run(self):
        for arguments, code in ((("evaluate", "nowhere"), 2), (("export", self.directory), 2),
                                (("inspect", "nowhere"), 2), (("inspect", self.directory), 2),
                                (("predict", "nowhere", "--input", "a", "--output", "b"), 2)):
            with self.subTest(arguments=arguments):
                self.assertEqual(self.run_program(*arguments).code, code)

    def test_evaluate_needs_the_test_files_alone(self):
        out, data, trained = self.make_idx_run()
        final = re.search(r"test_accuracy=\S+ test_loss=\S+", trained.stdout).group(0)
        for file in data.glob("train-*"):
            file.unlink()
        for flags in ([], ["--data", data]):
            evaluated = self.run_program("evaluate", out, *flags)
            self.assertEqual(evaluated.code, 0, evaluated.text)
            self.assertIn(final, evaluated.stdout)

    def test_inspect_of_a_run_names_its_damaged_checkpoints(self):
        out = self.directory / "run"
        self.assertEqual(self.train(out=out).code, 0)
        self.assertEqual(self.run_program("inspect", out).code, 0)
        steps = sorted(path.name for path in (out / "checkpoints").glob("step-*"))
        manifest = out / "checkpoints" / steps[1] / "MANIFEST"
        manifest.write_bytes(manifest.read_bytes()[:-1])
        outcome = self.run_program("inspect", out)
        self.expect_failure(outcome, 4, r"%s: DAMAGED: .*MANIFEST" % steps[1])
        for step in steps:
            self.assertIn(step + ": ", outcome.stdout)
        self.assertEqual(outcome.stdout.count("verified"), len(steps) - 1)

    def test_damaged_things_are_found_by_inspect(self):
        out = self.directory / "run"
        self.assertEqual(self.train(out=out).code, 0)
        newest = max((out / "checkpoints").glob("step-*"))
        file = next(newest.glob("parameters*"))
        file.write_bytes(file.read_bytes()[:-1])
        self.expect_failure(self.run_program("inspect", newest), 4, re.escape(file.name))

    def test_examples_are_valid(self):
        for example in sorted((SOURCE / "examples").glob("*.toml")):
            with self.subTest(example=example.name):
                outcome = self.run_program("inspect", example)
                self.assertEqual(outcome.code, 0, outcome.text)

    def test_the_page_of_keys_is_what_the_program_prints(self):
        page = (SOURCE / "docs" / "configuration.md").read_text()
        self.assertIn(self.run_program("keys", "--markdown").stdout, page)

    def test_completion_scripts_are_valid_bash(self):
        script = self.write("completion.bash", self.run_program("completion", "bash").stdout)
        check = subprocess.run(
            ["bash", "-c", f"source {script}; COMP_WORDS=(superstep tr); COMP_CWORD=1; _superstep; "
             "echo ${COMPREPLY[@]}; COMP_WORDS=(superstep train --se); COMP_CWORD=2; _superstep; echo ${COMPREPLY[@]}"],
            capture_output=True, text=True, check=True)
        self.assertEqual(check.stdout, "train\n--set\n")

    def test_the_man_page_names_every_command_and_option(self):
        page = (SOURCE / "man" / "superstep.1").read_text().replace("\\-", "-")
        changeable = [line.split("|") for line in self.run_program("keys", "--markdown").stdout.splitlines()
                      if "may change" in line]
        self.assertGreater(len(changeable), 10)
        for row in changeable:
            name = row[1].strip(" `")
            if name not in ("every_supersteps", "keep", "keep_best", "asynchronous", "lanes", "ranks_per_node", "sync_deadline_seconds"):
                self.assertIn("." + name, page)
        words = set()
        for command in ("train", "federated", "evaluate", "predict", "inspect", "export", "models", "keys", "completion"):
            words.add(command)
            words.update(re.findall(r"--[a-z-]+", self.run_program(command, "--help").stdout.split("Examples:")[0]))
        for word in sorted(words):
            self.assertIn(word, page)


FEDERATED_CONFIG = """
[data]
format = "synthetic"
num_train = 150
num_test = 40
sample_shape = [1, 6, 6]
num_classes = 3

[train]
evaluation_batch = 16

[federated]
rounds = 20
clients = 13
cohort = 5
partition = "dirichlet"
local_batch = 4
client_learning_rate = 0.05
evaluate_every_rounds = 10

[checkpoint]
every_supersteps = 6
keep = 10

[[model.layers]]
kind = "flatten"

[[model.layers]]
kind = "dense"
units = 3
"""


class Federated(ProgramTest):
    def setUp(self):
        super().setUp()
        self.config = self.write("federated.toml", FEDERATED_CONFIG)

    def train(self, *arguments, out=None, **options):
        self.count += 1
        out = out or self.directory / f"run{self.count}"
        return self.run_program("federated", self.config, "--out", out, *arguments, **options)

    def test_one_hash_for_processes_lanes_and_both(self):
        expected = self.train()
        self.assertEqual(expected.code, 0, expected.text)
        self.assertIsNotNone(expected.hash())
        for flags, mpirun in ((["--lanes", "8"], ()), ([], [*MPIRUN, "-n", "2"]), ([], [*MPIRUN, "-n", "3"]),
                              ([], [*MPIRUN, "-n", "4"]), (["--lanes", "2"], [*MPIRUN, "-n", "2"]),
                              (["--set", "federated.data_mode=strict"], [*MPIRUN, "-n", "2"]),
                              (["--set", "bsp.ranks_per_node=1"], [*MPIRUN, "-n", "3"])):
            with self.subTest(flags=flags, mpirun=mpirun):
                outcome = self.train(*flags, mpirun=mpirun)
                self.assertEqual(outcome.code, 0, outcome.text)
                self.assertEqual(outcome.hash(), expected.hash())

    def test_goes_on_after_a_limit_with_the_same_bits_and_leaves_a_whole_record(self):
        for algorithm in ("fedadam", "scaffold"):
            flags = ("--set", f"federated.algorithm={algorithm}")
            expected = self.train(*flags).hash()
            out = self.directory / f"limited-{algorithm}"
            first = self.train(*flags, "--set", "federated.rounds=9", "--lanes", "2", out=out)
            self.assertEqual(first.code, 0, first.text)
            again = self.train(*flags, "--resume", out=out, mpirun=[*MPIRUN, "-n", "3"])
            self.assertEqual(again.code, 0, again.text)
            self.assertEqual(again.hash(), expected)
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            self.assertEqual([line["round"] for line in lines if line["type"] == "round"], list(range(1, 21)))
            summary = json.loads((out / "summary.json").read_text())
            self.assertEqual(summary["federated"]["rounds"], 20)
            self.assertEqual(summary["federated"]["client_rounds"], 55)
            self.assertEqual(self.run_program("evaluate", out).code, 0)
        self.expect_failure(self.train(*flags, out=out), 2, r"superstep federated .*config\.toml --out .* --resume")

    def test_a_private_run_keeps_a_ledger(self):
        out = self.directory / "private"
        outcome = self.train("--set", "federated.sampling=poisson", "--set", "federated.weighting=uniform",
                             "--set", "federated.privacy=dp_fedavg", "--set", "federated.noise_multiplier=1.5",
                             "--set", "federated.delta=0.01", out=out, mpirun=[*MPIRUN, "-n", "2"])
        self.assertEqual(outcome.code, 0, outcome.text)
        ledger = [json.loads(line) for line in (out / "privacy.jsonl").read_text().splitlines()]
        self.assertEqual([line["round"] for line in ledger], list(range(1, 21)))
        epsilons = [line["epsilon_rdp"] for line in ledger]
        self.assertEqual(epsilons, sorted(epsilons))
        self.assertLessEqual(ledger[-1]["epsilon_pld"], epsilons[-1])
        privacy = json.loads((out / "summary.json").read_text())["federated"]["privacy"]
        self.assertEqual(privacy["epsilon_rdp"], epsilons[-1])
        self.assertEqual(privacy["noise_source"], "system")

    def test_bad_input_is_refused_before_anything_is_made(self):
        self.write("twice.tsv", "index\tclient\n0\ta\n0\tb\n")
        rows = [
            (["federated.cohort=14"], 2, r"got 14 clients per round, expected 1 to 13"),
            (["federated.rounds=0"], 2, r"'federated\.clients' = 13 has no effect with federated\.rounds = 0"),
            (["federated.clients=151"], 2, r"more clients than the data can serve"),
            (["federated.ring_bits=16"], 2, r"integer range is too small for the cohort"),
            (["federated.algorithm=fedavgg"], 2, r'did you mean "fedavg"\?'),
            (["federated.mu=0.1"], 2, r"'federated\.mu' = 0\.1 has no effect with federated\.algorithm"),
            (["optimizer.kind=adam"], 2, r"'optimizer\.kind' = \"adam\" has no effect"),
            (["federated.partition=file"], 2, r"'federated\.partition_file' is missing"),
            (["federated.partition=file", "federated.partition_file=twice.tsv"], 3, r"sample 0 is given twice"),
            (["federated.privacy=dp_fedavg"], 2, r"accountants account for Poisson sampling"),
            (["federated.privacy=dp_fedavg", "federated.sampling=poisson"], 2, r"weighted by samples"),
        ]
        for values, code, pattern in rows:
            with self.subTest(values=values):
                out = self.directory / "refused"
                flags = [word for value in values for word in ("--set", value)]
                self.expect_failure(self.train(*flags, out=out), code, pattern)
                self.assertFalse(out.exists())
        self.expect_failure(self.run_program("train", self.config), 2, r"for superstep federated")

    def test_updates_that_are_no_numbers_are_rejected_and_named(self):
        out = self.directory / "rejected"
        outcome = self.train("--set", "federated.client_learning_rate=1e6", "--set", "federated.rounds=2", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        rejected = [client for line in lines if line["type"] == "round" for client in line["rejected"]]
        self.assertEqual(len(rejected), 10)
        self.assertIn(rejected[0]["reason"], ("not_finite", "out_of_range"))
        self.assertEqual(json.loads((out / "summary.json").read_text())["federated"]["rejected_updates"], 10)

    def test_dry_run_explains_and_makes_nothing(self):
        out = self.directory / "dry"
        outcome = self.train("--dry-run", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertRegex(outcome.stdout, r"clients: 13 with 150 samples, 5 per round \(fixed\)")
        self.assertFalse(out.exists())


class Install(ProgramTest):
    def test_install_puts_everything_in_its_place(self):
        prefix = self.directory / "prefix"
        subprocess.run(["cmake", "--install", pathlib.Path(PROGRAM).parent, "--prefix", prefix],
                       check=True, capture_output=True)
        for path in ("bin/superstep", "share/man/man1/superstep.1", "share/bash-completion/completions/superstep",
                     "share/zsh/site-functions/_superstep", "share/fish/vendor_completions.d/superstep.fish",
                     "share/doc/superstep/examples/fashion_mnist_cnn.toml", "share/doc/superstep/summary.md"):
            self.assertTrue((prefix / path).is_file(), path)
            self.assertGreater((prefix / path).stat().st_size, 0, path)
        version = subprocess.run([prefix / "bin/superstep", "--version"], capture_output=True, text=True, check=True)
        self.assertRegex(version.stdout, r"^superstep \d+\.\d+\.\d+ \(")


GROUPS = {case.__name__: case for case in (BadInput, LanesInvariance, ProcessesInvariance, ResumeAfterFaults,
                                            Failures, Signals, Resume, Streams, Commands, Federated, Bench, Install)}


def run(names, groups):
    suite = unittest.TestSuite()
    for name in names:
        group, _, test = name.partition(".")
        cases = unittest.defaultTestLoader.loadTestsFromTestCase(groups[group])
        suite.addTests(case for case in cases if test in case.id())
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return result.wasSuccessful() and result.testsRun > 0


def main(groups):
    """PROGRAM GROUP[.TEST]..., or PROGRAM --groups NAME...; returns the exit status."""
    global PROGRAM
    PROGRAM = os.path.abspath(sys.argv[1])
    if sys.argv[2] == "--groups":
        return 0 if sorted(sys.argv[3:]) == sorted(groups) else f"the groups are {' '.join(groups)}"
    return 0 if run(sys.argv[2:], groups) else 1


if __name__ == "__main__":
    sys.exit(main(GROUPS))
