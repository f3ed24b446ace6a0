#!/usr/bin/env python3
"""Input that is refused before any work, with the message that says why. How to run it: program_support.py."""

import os
import pathlib
import re
import shutil
import struct
import sys
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import CONFIG, IDX_CONFIG, MPIRUN, ProgramTest, idx, idx_files  # noqa: E402


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
            (["--servers", "1"], r"dedicated servers leave no rank to compute: got 'server\.servers' = 1 of 1 ranks .* expected at most 0"),
            (["--lanes", "4", "--servers", "4"], r"got 'server\.servers' = 4 of 4 ranks .* expected at most 3"),
            (["--servers", "1", "--set", "server.servers=2"],
             r"'server\.servers' is given twice: by --servers 1 and by --set server\.servers=2"),
            (["--set", "server.policy=ssp", "--set", "server.staleness=-1"], r"'server\.staleness' is out of range: got -1"),
            (["--set", "server.policy=async", "--set", "server.staleness=2"],
             r"'server\.staleness' = 2 has no effect with server\.policy = \"async\""),
            (["--lanes", "3", "--set", "optimizer.clip_global_norm=0", "--set", "server.policy=local", "--set", "server.workers=2"],
             r"more ranks than local workers: got 3 ranks .* expected at most 'server\.workers' = 2"),
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
            (images, good[images][:-1], r", byte 879: truncated: got 863 bytes of values, expected 864 \(24 x 6 x 6\)"),
            (images, good[images] + b"x",
             r", byte 880: 1 trailing bytes: got 865 bytes of values, expected 864 \(24 x 6 x 6\)"),
            (images, b"\0\0\x08\x02" + good[images][4:],
             r", byte 156: 724 trailing bytes: got 868 bytes of values, expected 144 \(24 x 6\)"),
            (images, b"\1" + good[images][1:], r", byte 0: bad magic: got 0x01000803, expected 0x00000803"),
            (images, good[labels], r", byte 3: not an image file: got 1 dimension, expected 2 to 4"),
            (labels, good[labels][:-1] + b"\3", r", byte 31: label of sample 23 out of range: got 3, expected 0 to 2"),
            (labels, idx(0x801, [23], [0] * 23), r", byte 4: counts differ: got 23 labels, expected 24, one per image"),
            (images, b"<html>not found</html>", r", byte 0: got an HTML or XML page .*, expected an IDX file"),
            (images, None, r": no such file, neither plain nor with \.gz"),
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
                self.expect_refusal(self.train(out=out), 3, re.escape(str(data / name)) + pattern, out)

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
            "train", self.config, "--out", out, ":", "-n", "1", program_support.PROGRAM, "train", other, "--out", out,
            mpirun=[*MPIRUN, "-n", "1"])
        self.expect_failure(outcome, 5, r"optimizer\.learning_rate")
        self.assertIn("0.01", outcome.text)
        self.assertIn("0.02", outcome.text)
        self.assertFalse(out.exists())

    def test_ranks_that_would_compute_differently(self):
        out = self.directory / "out"
        words = ["train", self.config, "--out", out]
        outcome = self.run_program(*words, ":", "-n", "1", "env", "ONEDNN_MAX_CPU_ISA=AVX2", program_support.PROGRAM, *words,
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


if __name__ == "__main__":
    sys.exit(program_support.main(BadInput))
