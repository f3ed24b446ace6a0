#!/usr/bin/env python3
"""superstep estimator. How to run it: program_support.py."""

import csv
import json
import math
import pathlib
import random
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import MPIRUN, ProgramTest  # noqa: E402

COLUMNS = "age,work,hours,income"
FINAL = r"(?m)^final: test_accuracy=(\d\.\d{4}) test_loss=\d+\.\d{4} rounds=(\d+) model_hash=(xxh3:[0-9a-f]{32})$"


def rows(count, seed, end=""):
    """In the manner of the Adult data: blanks behind commas, ? for no value, no header."""
    source = random.Random(seed)
    lines = []
    for _ in range(count):
        age, hours = source.randint(17, 90), source.randint(1, 99)
        work = source.choice(["Private", "State-gov", "Self-emp", "Local-gov", "Never"])
        rich = age * (2 if work in ("Private", "Self-emp") else 1) + source.randint(0, 20) > 90
        lines.append(f"{age if source.random() > 0.1 else '?'}, {work}, {hours}, {'>50K' if rich else '<=50K'}{end}")
    return "\n".join(lines) + "\n"


class Prediction:
    """Follows the exported trees by itself."""

    def __init__(self, directory):
        learner = json.loads((directory / "model.json").read_text())["learner"]
        self.names = learner["feature_names"]
        self.trees = learner["gradient_booster"]["model"]["trees"]
        self.own = json.loads(learner["attributes"]["superstep"])
        score = float(learner["learner_model_param"]["base_score"])
        self.base = -math.log(1 / score - 1)

    def values(self, row):
        found = []
        for name, text in zip(self.names, row):
            words = self.own["vocabularies"].get(name)
            if words is None:
                found.append(None if text == "?" else float(text))
            else:
                found.append(words.index(text) if text in words else None)
        return found

    def leaf(self, tree, values):
        node = 0
        while tree["left_children"][node] != -1:
            value = values[tree["split_indices"][node]]
            if value is None:
                left = tree["default_left"][node] == 1
            elif tree["split_type"][node] == 1:
                i = tree["categories_nodes"].index(node)
                begin = tree["categories_segments"][i]
                left = value not in tree["categories"][begin:begin + tree["categories_sizes"][i]]
            else:
                left = value < tree["split_conditions"][node]
            node = tree["left_children" if left else "right_children"][node]
        return tree["split_conditions"][node]

    def margin(self, row):
        values = self.values(row)
        return self.base + sum(self.leaf(tree, values) for tree in self.trees)


class Estimator(ProgramTest):
    def setUp(self):
        super().setUp()
        self.data = self.write("train.data", rows(1200, 1))
        self.test = self.write("train.test", "|1x3 Cross validator\n" + rows(400, 2, end="."))

    def estimate(self, *arguments, **options):
        return self.run_program("estimator", "train", "--kind", "boosted-trees", "--data", self.data, "--label", "income",
                                *arguments, **options)

    def trained(self, *arguments, rounds=20, **options):
        outcome = self.estimate("--columns", COLUMNS, "--eval-data", self.test, "--rounds", rounds, *arguments,
                                **options)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertRegex(outcome.stdout, FINAL)
        self.assertTrue(outcome.stdout.splitlines()[-1].startswith("final: "))
        return outcome

    def test_every_world_ends_with_the_same_line(self):
        lines = set()
        for mpirun, flags in (((), []), ((), ["--lanes", "3"]), ([*MPIRUN, "-n", "2"], []), ([*MPIRUN, "-n", "4"], []),
                              ([*MPIRUN, "-n", "2"], ["--lanes", "2"])):
            lines.add(self.trained(*flags, mpirun=mpirun).stdout.splitlines()[-1])
        self.assertEqual(len(lines), 1, lines)
        self.assertGreater(float(re.search(FINAL, lines.pop()).group(1)), 0.9)

    def test_says_what_the_columns_were_taken_for(self):
        text = self.trained().stdout
        self.assertRegex(text, r"train\.data: 1,200 rows, \d+ missing values \(\d+\.\d KiB in \d+\.\d+ s\)\n")
        self.assertRegex(text, r"(?m)^  age     number    in all of the first 1,200 records$")
        self.assertRegex(text, r"(?m)^  work    category  line 1 holds \"")
        self.assertRegex(text, r"train\.test: 400 rows")

    def test_what_is_written_predicts_what_was_said(self):
        out = self.directory / "model"
        contributions = self.directory / "contributions.csv"
        text = self.trained("--out", out, "--contributions", contributions).stdout
        accuracy, rounds, found_hash = re.search(FINAL, text).groups()
        model = Prediction(out)
        self.assertEqual(len(model.trees), int(rounds))
        self.assertEqual(model.own["model_hash"], found_hash)
        self.assertEqual(model.own["classes"], ["<=50K", ">50K"])
        with open(contributions, newline="", encoding="utf-8") as file:
            explained = [[float(cell) for cell in row[2:]] for row in list(csv.reader(file))[1:]]
        correct = 0
        lines = pathlib.Path(self.test).read_text().splitlines()[1:]
        self.assertEqual(len(explained), len(lines))
        for line, parts in zip(lines, explained):
            row = [cell.strip() for cell in line.rstrip(".").split(",")]
            margin = model.margin(row)
            self.assertAlmostEqual(margin, sum(parts), delta=1e-5)
            correct += (margin > 0) == (row[-1] == ">50K")
        self.assertEqual(f"{correct / len(lines):.4f}", accuracy)
        importances = (out / "importances.csv").read_text().splitlines()
        self.assertEqual(importances[0], "feature,gain,cover,splits")
        self.assertEqual(len(importances), 4)
        # The schema that was written is one that is read, and gives the same model.
        again = self.estimate("--schema", out / "schema.csv", "--eval-data", self.test, "--rounds", 20)
        self.assertIn(found_hash, again.stdout)
        self.expect_failure(self.estimate("--columns", COLUMNS, "--out", out), 2, r"--out .*not an empty directory")

    def test_options_reach_the_trees(self):
        plain = re.search(FINAL, self.trained().stdout).group(3)
        for flags in (["--max-depth", "2"], ["--learning-rate", "0.3"], ["--lambda", "5"], ["--gamma", "3"],
                      ["--min-child-weight", "20"], ["--max-bin", "8"], ["--subsample", "0.5"], ["--colsample", "0.4"],
                      ["--base-score", "0.3"], ["--monotone", "hours=1,age=-1"], ["--validation-fraction", "0.2"],
                      ["--max-cat-to-onehot", "9"], ["--subsample", "0.5", "--seed", "2"]):
            with self.subTest(flags=flags):
                self.assertNotEqual(re.search(FINAL, self.trained(*flags).stdout).group(3), plain)
        early = self.trained("--validation-fraction", "0.3", "--early-stopping", "5", rounds=300)
        self.assertRegex(early.stdout, r"validation: loss=\d\.\d{6} rows=\d+ after round \d+")
        self.assertLess(int(re.search(FINAL, early.stdout).group(2)), 300)

    def test_regression_and_headers(self):
        lines = "".join(f"{i % 40};{(i % 40) ** 2 / 10 + i % 3}\n" for i in range(800))
        self.data = self.write("numbers.csv", "x;income\n" + lines)
        outcome = self.estimate("--delimiter", ";", "--eval-data", self.data)
        self.assertEqual(outcome.code, 0, outcome.text)
        rmse = float(re.search(r"(?m)^final: test_rmse=(\S+) rounds=100 model_hash=xxh3:", outcome.stdout).group(1))
        self.assertLess(rmse, 1.0)  # what depends on i % 3 is not in x: standard deviation 0.82

    def test_bad_input_is_refused_with_its_place(self):
        named = ["--columns", COLUMNS]
        for content, flags, code, pattern in (
                ("39, Private, 40\n", named, 3, r"line 1, field 3: got 3 fields, expected 4"),
                (rows(30, 1) + "1, \"x, 2, <=50K\n", named, 3, r"line 31, field 2: a quote opens here and is never closed"),
                (rows(30, 1), ["--columns", COLUMNS.replace("income", "wage")], 2, r"\[--label\] no column \"income\""),
                (rows(30, 1), [], 3, r"line 1.*twice|no column \"income\""),
                ("", named, 3, r"got no record"),
                (rows(30, 1), [*named, "--schema", "x"], 2, r"expected one of them"),
                (rows(30, 1), [*named, "--monotone", "age=2"], 2, r"--monotone: got \"age=2\""),
                (rows(30, 1), [*named, "--monotone", "work=1"], 2, r"\"work\": got a category"),
                (rows(30, 1), [*named, "--max-bin", "1"], 2, r"--max-bin: got 1, expected 2 to 65535"),
                (rows(30, 1), [*named, "--early-stopping", "3"], 2, r"--validation-fraction: got 0"),
                (rows(30, 1), [*named, "--objective", "regression"], 2, r"got a category, expected a number"),
                (rows(30, 1), [*named, "--contributions", "c.csv"], 2, r"needs --eval-data"),
                (rows(30, 1), [*named, "--delimiter", ";;"], 2, r"--delimiter: got \";;\""),
                (rows(30, 1), [*named, "--objective", "poisson"], 2, r"--objective")):
            with self.subTest(flags=flags, pattern=pattern):
                self.data = self.write("bad.csv", content)
                outcome = self.estimate(*flags)
                self.assertRegex(outcome.text, pattern)
                self.assertIn(outcome.code, (2, 3) if code == 3 and not flags else (code,), outcome.text)

    def test_bad_rows_are_named_the_same_under_mpirun(self):
        # Behind the first MiB, so that the ranks find it and not the schema.
        self.data = self.write("late.csv", rows(60_000, 3) + "x, Private, 40, <=50K\n")
        for mpirun in ((), [*MPIRUN, "-n", "3"]):
            outcome = self.estimate("--columns", COLUMNS, mpirun=mpirun)
            self.expect_failure(outcome, 3, r"line 60001, field 1: column \"age\": got \"x\", expected a number")


if __name__ == "__main__":
    sys.exit(program_support.main(Estimator))
