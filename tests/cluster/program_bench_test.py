#!/usr/bin/env python3
"""superstep bench. How to run it: program_support.py."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import MPIRUN, ProgramTest  # noqa: E402


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
                (["--model", "mlp", "--profile", "--precision", "bf16"], 1, {}),
                (["--model", "cnn", "--batch", "8", "--microbatches", "5", "--lanes", "2"], 2, {}),
                (["--model", "resnet20", "--batch", "4"], 2, {"mpirun": [*MPIRUN, "-n", "2"]})]
        for arguments, ranks, options in rows:
            with self.subTest(arguments=arguments):
                found = json.loads(self.bench("--json", *arguments, **options).stdout)
                self.expect_consistent(found, ranks)
                if "--profile" in arguments:
                    self.assertTrue(any("matmul" in op["op"] for op in found["profile"]))
                    self.assertEqual(found["precision"] == "bf16", "in bf16" in json.dumps(found["profile"]))
                    self.assertTrue(all(op["seconds"] > 0 for op in found["profile"]))

    def test_text(self):
        outcome = self.bench("--model", "mlp", "--profile")
        self.assertRegex(outcome.stdout, r"mlp: 199210 parameters, float32, batch 64 per rank")
        self.assertRegex(outcome.stdout, r"(?m)^samples_per_second \d+\.\d$")
        self.assertRegex(outcome.stdout, r"compute \d+\.\d+, input wait")
        self.assertRegex(outcome.stdout, r"matmul\(float32 \(64, 784\)")

    def test_what_cannot_be_measured_is_refused(self):
        rows = [(["--microbatches", "65"], r"--microbatches: got 65, expected .* the global batch, 64"),
                (["--lanes", "3", "--microbatches", "2"], r"--microbatches: got 2, .* number of ranks, 3"),
                (["--model", "lenet"], r"--model"), (["--precision", "fp16"], r"--precision"), (["--batch", "0"], r"--batch"), (["--steps", "-1"], r"--steps")]
        for arguments, pattern in rows:
            with self.subTest(arguments=arguments):
                self.expect_failure(self.run_program("bench", *arguments), 2, pattern)


if __name__ == "__main__":
    sys.exit(program_support.main(Bench))
