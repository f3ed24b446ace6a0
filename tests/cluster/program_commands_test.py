#!/usr/bin/env python3
"""The commands beside training, and the standard streams of all of them. How to run it: program_support.py."""

import gzip
import json
import pathlib
import re
import resource
import subprocess
import sys
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import ENVIRONMENT, IDX_CONFIG, MPIRUN, ProgramTest, SOURCE, idx, idx_files  # noqa: E402


class Streams(ProgramTest):
    """Standard streams that are closed, full, or that nobody reads any more."""

    def shell(self, text):
        return subprocess.run(["bash", "-c", text], cwd=self.directory, capture_output=True, text=True, timeout=100,
                              env={**ENVIRONMENT, "P": program_support.PROGRAM, "C": self.config}, check=False)

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

    def test_precision_is_said_recorded_and_kept(self):
        self.assertIn("precision: float32\n", self.run_program("train", self.config, "--dry-run").stdout)
        bf16 = ["--set", "train.precision=bf16"]
        self.assertRegex(self.run_program("train", self.config, "--dry-run", *bf16).stdout,
                         r"precision: products and convolutions in bf16 \(.+\), the rest in float32")
        out = self.directory / "bf16"
        trained = self.train(*bf16, out=out)
        self.assertEqual(trained.code, 0, trained.text)
        provenance = json.loads((out / "provenance.json").read_text())
        self.assertEqual([start["precision"] for start in provenance["starts"]], ["bf16"])
        self.assertIn("bf16_arithmetic", provenance["program"])
        self.assertIn('precision = "bf16"', (out / "config.toml").read_text())
        # The evaluation of the checkpoint is the training's own, to the last digit.
        final = re.search(r"test_accuracy=\S+ test_loss=\S+", trained.stdout).group(0)
        self.assertIn(final, self.run_program("evaluate", out).stdout)

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
             "echo ${COMPREPLY[@]}; COMP_WORDS=(superstep train --lan); COMP_CWORD=2; _superstep; echo ${COMPREPLY[@]}"],
            capture_output=True, text=True, check=True)
        self.assertEqual(check.stdout, "train\n--lanes\n")

    def test_the_man_page_names_every_command_and_option(self):
        page = (SOURCE / "man" / "superstep.1").read_text().replace("\\-", "-")
        changeable = [line.split("|") for line in self.run_program("keys", "--markdown").stdout.splitlines()
                      if "may change" in line]
        self.assertGreater(len(changeable), 10)
        for row in changeable:
            name = row[1].strip(" `")
            if name not in ("every_supersteps", "keep", "keep_best", "asynchronous", "partner_directory", "lanes",
                            "ranks_per_node", "sync_deadline_seconds"):
                self.assertIn("." + name, page)
        words = set()
        commands = re.findall(r"^  ([a-z]+) {2,}", self.run_program("--help").stdout, re.M)
        self.assertLessEqual({"train", "federated", "launch", "bench", "evaluate", "completion"}, set(commands))
        for command in commands:
            words.add(command)
            words.update(re.findall(r"--[a-z-]+", self.run_program(command, "--help").stdout.split("Examples:")[0]))
        for word in sorted(words):
            self.assertIn(word, page)


if __name__ == "__main__":
    sys.exit(program_support.main(Streams, Commands))
