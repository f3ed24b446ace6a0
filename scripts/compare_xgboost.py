#!/usr/bin/env python3
"""Boosted trees against XGBoost's hist: splits, leaves, predictions, contributions and time; see compare_xgboost.sh.

Splits are compared tree by tree: XGBoost grows one tree on the margins that our model has after the rounds before, so
that an accepted difference (two splits whose gains are equal to 1e-6 of the scores they are differences of) does not
make all later trees incomparable. Both sides get as many bins as there are distinct values and the same cut rule: a
threshold is the smallest value that goes right.
"""

import argparse
import csv
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import xgboost as xgb

from benchmark_report import ENVIRONMENT, PROGRAM, bench, command_line, machine_lines, write_section

MISSING = {"", "?", "NA", "N/A", "NaN", "nan", "null"}
ADULT = ("age,workclass,fnlwgt,education,education_num,marital_status,occupation,relationship,race,sex,capital_gain,"
         "capital_loss,hours_per_week,native_country,income").split(",")
GAP = 1e-6  # gains this close, as a share of the scores, count as equal
DEPTH, RATE, LAMBDA, MANY_BINS = 6, 0.1, 1.0, 32768


class Data:
    """A table as numpy arrays: numbers as they are, categories as indices into their sorted words."""

    def __init__(self, name, path, columns, label, objective, evaluation=None):
        self.name, self.path, self.columns, self.label, self.objective = name, path, columns, label, objective
        self.evaluation = evaluation
        with open(path, newline="", encoding="utf-8") as file:
            rows = [[field.strip() for field in row] for row in csv.reader(file, skipinitialspace=True) if row]
        self.names = columns or rows.pop(0)
        fields = list(zip(*rows))
        self.features = [name for name in self.names if name != label]
        self.kinds, arrays = [], []
        for feature in self.features:
            kind, values = self.encode(fields[self.names.index(feature)])
            self.kinds.append(kind)
            arrays.append(values)
        self.matrix = np.stack(arrays, axis=1)
        labels = fields[self.names.index(label)]
        if objective == "regression":
            self.target = np.array(labels, dtype=np.float64).astype(np.float32)
        else:
            words = sorted(set(labels), key=lambda word: (float(word), "") if word.isdigit() else (0.0, word))
            self.target = np.array([words.index(word) for word in labels], dtype=np.float32)
        self.classes = 0 if objective == "regression" else int(self.target.max()) + 1

    @staticmethod
    def encode(texts):
        present = [text for text in texts if text not in MISSING]
        try:
            for text in present:
                float(text)
            table = {text: float(text) for text in set(present)}
            kind = "float"
        except ValueError:
            table = {word: float(i) for i, word in enumerate(sorted(set(present)))}
            kind = "c"
        return kind, np.array([table.get(text, np.nan) for text in texts], dtype=np.float64).astype(np.float32)

    def write_codes(self, directory):
        """The table with categories as numbers, the label as it is encoded."""
        path = pathlib.Path(directory) / f"{self.name}-codes.csv"
        with open(path, "w", encoding="utf-8") as file:
            file.write(",".join(self.features + [self.label]) + "\n")
            for row, target in zip(self.matrix, self.target):
                cells = ["" if np.isnan(value) else repr(float(value)) for value in row]
                file.write(",".join(cells + [repr(float(target))]) + "\n")
        return path

    def dmatrix(self, categories):
        kinds = self.kinds if categories else ["float"] * len(self.kinds)
        return xgb.DMatrix(self.matrix, label=self.target, feature_names=self.features, feature_types=kinds,
                           enable_categorical=categories)

    def parameters(self, bins, threads=1, least_weight=1):
        objective = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}
        found = {"objective": objective[self.objective], "tree_method": "hist", "max_bin": bins, "eta": RATE,
                 "max_depth": DEPTH, "lambda": LAMBDA, "min_child_weight": least_weight, "gamma": 0, "base_score": 0.5,
                 "max_cat_to_onehot": 4, "nthread": threads, "seed": 1}
        return {**found, "num_class": self.classes} if self.objective == "multiclass" else found


def data_sets(directory):
    covtype = [f"f{i}" for i in range(54)] + ["cover"]
    return [Data("Adult", directory / "adult/adult.data", ADULT, "income", "binary", directory / "adult/adult.test"),
            Data("Covertype", directory / "covtype/covtype.data", covtype, "cover", "multiclass"),
            Data("California housing", directory / "california-housing/housing.csv", None, "median_house_value",
                 "regression")]


def ours(data, path, columns, rounds, bins, *flags, processes=1):
    mpirun = ["mpirun", "-n", str(processes), "--bind-to", "none"] if processes > 1 else []
    named = ["--columns", ",".join(columns)] if columns else []
    command = [*mpirun, PROGRAM, "estimator", "train", "--kind", "boosted-trees", "--data", path, *named, "--label",
               data.label, "--objective", data.objective, "--rounds", rounds, "--max-depth", DEPTH, "--learning-rate",
               RATE, "--lambda", LAMBDA, "--max-bin", bins, "--base-score", "0.5", *flags]
    run = subprocess.run(list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(f"{data.name}: {run.stderr}")
    return run.stdout


def trees_of(booster):
    model = json.loads(booster.save_raw("json").decode())
    return model["learner"]["gradient_booster"]["model"]["trees"]


def set_of(tree, node):
    i = tree["categories_nodes"].index(node)
    begin = tree["categories_segments"][i]
    return set(tree["categories"][begin:begin + tree["categories_sizes"][i]])


class TreeComparison:
    """Counts what agrees between our trees and XGBoost's."""

    def __init__(self, data):
        self.data = data
        self.splits = self.ties = self.leaves = 0
        self.largest_gap = self.largest_leaf = 0.0
        self.wrong = []

    def goes_left(self, tree, node, rows):
        values = self.data.matrix[rows, tree["split_indices"][node]]
        if tree["split_type"][node] == 1:
            left = ~np.isin(values, list(set_of(tree, node)))
        else:
            left = values < np.float32(tree["split_conditions"][node])
        return np.where(np.isnan(values), bool(tree["default_left"][node]), left)

    def gain(self, tree, node, rows):
        """(gain, the scores it is a difference of); no split gains nothing."""
        if tree["left_children"][node] == -1:
            return 0.0, 0.0
        left = self.goes_left(tree, node, rows)
        score = 0.0
        for side in (left, ~left):
            score += self.g[rows][side].sum() ** 2 / (self.h[rows][side].sum() + LAMBDA)
        whole = self.g[rows].sum() ** 2 / (self.h[rows].sum() + LAMBDA)
        return score - whole, score

    def compare(self, mine, theirs, derivatives):
        self.g, self.h = derivatives
        self.compare_node(mine, theirs, 0, 0, np.arange(len(self.g)))

    def compare_node(self, mine, theirs, a, b, rows):
        is_leaf = [tree["left_children"][node] == -1 for tree, node in ((mine, a), (theirs, b))]
        if all(is_leaf):
            x, y = mine["split_conditions"][a], theirs["split_conditions"][b]
            difference = abs(x - y) / max(1.0, abs(y))
            self.leaves += 1
            self.largest_leaf = max(self.largest_leaf, difference)
            if difference > 1e-5:
                self.wrong.append(f"leaf {a}: {x} and {y}")
            return
        if not any(is_leaf):
            same_rows = (self.goes_left(mine, a, rows) == self.goes_left(theirs, b, rows)).all()
            same_place = (mine["split_indices"][a] == theirs["split_indices"][b] and
                          (mine["split_type"][a] == 1 or
                           np.float32(mine["split_conditions"][a]) == np.float32(theirs["split_conditions"][b])))
            if same_rows and same_place:
                self.splits += 1
                left = self.goes_left(mine, a, rows)
                self.compare_node(mine, theirs, mine["left_children"][a], theirs["left_children"][b], rows[left])
                self.compare_node(mine, theirs, mine["right_children"][a], theirs["right_children"][b], rows[~left])
                return
        (x, score), (y, other) = self.gain(mine, a, rows), self.gain(theirs, b, rows)
        gap = abs(x - y) / max(score, other)
        self.ties += 1
        self.largest_gap = max(self.largest_gap, gap)
        if gap > GAP:
            self.wrong.append(f"node {a} of {len(rows)} rows: feature {mine['split_indices'][a]} at "
                              f"{mine['split_conditions'][a]} gains {x}, {theirs['split_indices'][b]} at "
                              f"{theirs['split_conditions'][b]} gains {y}")


def derivatives_of(data, margins):
    """Per output: first and second derivatives in float32, as both programs have them, widened."""
    if data.objective == "regression":
        return [((margins - data.target).astype(np.float64), np.ones(len(margins)))]
    if data.objective == "binary":
        p = (1 / (1 + np.exp(-margins))).astype(np.float32)
        return [((p - data.target).astype(np.float64), (p * (1 - p)).astype(np.float64))]
    e = np.exp(margins - margins.max(axis=1, keepdims=True))
    p = (e / e.sum(axis=1, keepdims=True)).astype(np.float32)
    return [((p[:, k] - (data.target == k)).astype(np.float64), (2 * p[:, k] * (1 - p[:, k])).astype(np.float64))
            for k in range(data.classes)]


def compare_splits(data, rounds, directory, categories):
    """A row of the table, and whether all is well."""
    path, columns = (data.path, data.columns) if categories else (data.write_codes(directory), None)
    out = pathlib.Path(directory) / f"{data.name}-{categories}"
    contributions = f"{out}.csv"
    # XGBoost sorts categories lighter than min_child_weight as if their weight were 0, which Superstep does not.
    least_weight = 0 if categories else 1
    text = ours(data, path, columns, rounds, MANY_BINS, "--out", out, "--eval-data", path, "--contributions",
                contributions, "--min-child-weight", least_weight)
    model = xgb.Booster(model_file=str(out / "model.json"))
    mine = trees_of(model)
    matrix = data.dmatrix(categories)
    outputs = max(1, data.classes) if data.objective == "multiclass" else 1
    comparison = TreeComparison(data)
    for done in range(rounds):
        margins = np.zeros((len(data.target), outputs), dtype=np.float32) + np.float32(
            0.0 if data.objective == "binary" else 0.5)
        if done > 0:
            margins = model.predict(matrix, output_margin=True, iteration_range=(0, done)).reshape(-1, outputs)
        flat = margins if outputs > 1 else margins[:, 0]
        step = data.dmatrix(categories)
        step.set_base_margin(flat)
        theirs = trees_of(xgb.train(data.parameters(MANY_BINS, 1, least_weight), step, num_boost_round=1))
        for k, derivatives in enumerate(derivatives_of(data, flat)):
            comparison.compare(mine[done * outputs + k], theirs[k], derivatives)
    explained = np.loadtxt(contributions, delimiter=",", skiprows=1)[:, 2:]
    margins = model.predict(matrix, output_margin=True).reshape(-1)
    scale = max(1.0, np.abs(margins).max())
    predicted = np.abs(explained.sum(axis=1) - margins).max() / scale
    approximate = model.predict(matrix, pred_contribs=True, approx_contribs=True).reshape(explained.shape)
    contributed = np.abs(explained - approximate).max() / scale
    accuracy = accuracy_line(data, model, matrix, text)
    row = (f"| {data.name}, {'categories' if categories else 'numbers'} | {len(mine)} | {comparison.splits} | "
           f"{comparison.ties} ({comparison.largest_gap:.1e}) | {comparison.leaves} ({comparison.largest_leaf:.1e}) | "
           f"{predicted:.1e} | {contributed:.1e} | {accuracy} |")
    print(row, flush=True)
    for one in comparison.wrong[:10]:
        print("  DIFFERS:", one, flush=True)
    return row, not comparison.wrong and predicted < 1e-5 and contributed < 1e-5


def accuracy_line(data, model, matrix, text):
    """What our program printed for the training rows, and what XGBoost makes of the exported model."""
    said = re.search(r"test_(accuracy|rmse)=(\S+)", text).group(2)
    prediction = model.predict(matrix)
    if data.objective == "regression":
        error = np.sqrt(np.mean((prediction.astype(np.float64) - data.target) ** 2))
        return f"{said} / {error:.6g}"
    found = (prediction > 0.5) if data.objective == "binary" else prediction.reshape(-1, data.classes).argmax(axis=1)
    return f"{said} / {np.mean(found == data.target):.4f}"


TIMED = r"""
import json, sys, time
import numpy as np, xgboost as xgb
data = np.load(sys.argv[1])
matrix = xgb.DMatrix(data["matrix"], label=data["target"], nthread=int(sys.argv[2]))
parameters = json.loads(sys.argv[3])
begin = time.perf_counter()
xgb.train(parameters, matrix, num_boost_round=int(sys.argv[4]))
print(time.perf_counter() - begin)
"""


def compare_time(data, rounds, repetitions, directory, ranks):
    path = data.write_codes(directory)
    arrays = pathlib.Path(directory) / f"{data.name}.npz"
    np.savez(arrays, matrix=data.matrix, target=data.target)
    mine, theirs = [], []
    for _ in range(repetitions):
        run = subprocess.run([sys.executable, "-c", TIMED, arrays, str(ranks),
                              json.dumps(data.parameters(255, ranks)), str(rounds)],
                             env={**os.environ, "OMP_NUM_THREADS": str(ranks)}, capture_output=True, text=True,
                             check=True)
        theirs.append(float(run.stdout))
        text = ours(data, path, None, rounds, 255, processes=ranks)
        mine.append(float(re.search(r"rounds in (\S+) s", text).group(1)))
    ratios = [a / b for a, b in zip(mine, theirs)]
    row = (f"| {data.name} | {rounds} | {ranks} | {statistics.median(theirs):.3f} ({min(theirs):.3f}-"
           f"{max(theirs):.3f}) | {statistics.median(mine):.3f} ({min(mine):.3f}-{max(mine):.3f}) | "
           f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |")
    print(row, flush=True)
    return row


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", default="splits,time")
    arguments = parser.parse_args()
    sets = data_sets(arguments.directory)
    lines, good = [], True
    with tempfile.TemporaryDirectory() as directory:
        if "splits" in arguments.only:
            lines += [f"XGBoost {xgb.__version__}, hist, max_bin {MANY_BINS}: a bin per distinct value on both sides. Its "
                      "trees are grown on the margins of our model after the rounds before. Splits: same feature, same "
                      "threshold or set. Ties: nodes where the two splits differ and their gains, recomputed in "
                      "float64, differ by no more than the share in brackets of the scores they are differences of "
                      "(nodes below are not compared). min_child_weight is 1, with categories 0. Leaves, predictions and contributions (approx_contribs): in "
                      "brackets or cells the largest difference, relative where the value is above 1.", "",
                      "| data | trees | same splits | ties (largest gap) | leaves (largest difference) | predictions of "
                      "the exported model | contributions | accuracy or RMSE on the training rows: ours / exported |",
                      "|---|---|---|---|---|---|---|---|"]
            for data in sets:
                for categories in (False, True) if "c" in data.kinds else (False,):
                    row, well = compare_splits(data, arguments.rounds, directory, categories)
                    lines.append(row)
                    good = good and well
            lines.append("")
        if "time" in arguments.only:
            lines += [f"Seconds of a training (cuts, bins and rounds; the table is in memory), max_bin 255, depth {DEPTH}, "
                      f"categories as numbers, median (least-largest) of {arguments.repetitions}, both sides in turn.",
                      "", "| data | rounds | ranks, threads | XGBoost | Superstep | ratio |", "|---|---|---|---|---|---|"]
            for data in sets:
                rounds = 20 if data.objective == "multiclass" else 100
                for ranks in (1, 2):
                    lines.append(compare_time(data, rounds, arguments.repetitions, directory, ranks))
            lines.append("")
    machine = bench("--model", "mlp", "--steps", 5)["machine"]
    write_section("compare_xgboost.sh", "Boosted trees against XGBoost",
                  [machine_lines(machine), "", *lines, command_line("compare_xgboost.sh")])
    if not good:
        raise SystemExit("compare_xgboost.py: trees differ where they must not")


if __name__ == "__main__":
    main()
