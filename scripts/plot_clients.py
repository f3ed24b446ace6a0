#!/usr/bin/env python3
"""Draws how accuracies are distributed over the clients of federated runs, as one SVG file.

    plot_clients.py OUTPUT.svg NAME=CLIENTS.tsv:COLUMN...

One curve each: the part of the clients (y) whose accuracy is at most x. COLUMN is one of clients.tsv in a run's
directory: accuracy, test_accuracy, personal_test_accuracy; clients without a value are left out. The median and the
10th percentile of each curve are printed and drawn. Python's standard library only.
"""

import csv
import math
import sys

import svg_chart


def accuracies(path, column):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or column not in rows[0]:
        raise SystemExit(f"plot_clients.py: {path}: no column \"{column}\", expected one of "
                         f"{', '.join(rows[0]) if rows else 'clients.tsv'}")
    values = sorted(float(row[column]) for row in rows if row[column])
    if not values:
        raise SystemExit(f"plot_clients.py: {path}: no client has a value in \"{column}\"")
    return values


def nearest_rank(values, part):
    """As the program does: the smallest value that at least that part does not exceed."""
    return values[max(math.ceil(part * len(values)), 1) - 1]


def steps(values):
    """The empirical distribution function as a staircase."""
    points, below = [(values[0], 0.0)], 0
    for i, value in enumerate(values):
        if i + 1 == len(values) or values[i + 1] != value:
            points += [(value, below / len(values)), (value, (i + 1) / len(values))]
            below = i + 1
    return points + [(1.0, 1.0)]


def draw(curves):
    least = min(values[0] for _, values in curves)
    chart = svg_chart.Chart("part of the clients with at most this accuracy on their own test samples",
                            (math.floor(10 * least) / 10, 1.0), (0.0, 1.0), "accuracy")
    for (name, values), color in zip(curves, svg_chart.COLORS):
        p10, median = nearest_rank(values, 0.1), nearest_rank(values, 0.5)
        mean = sum(values) / len(values)
        print(f"{name}: {len(values)} clients, least {values[0]:.4f}, p10 {p10:.4f}, median {median:.4f}, "
              f"mean {mean:.4f}")
        chart.curve(steps(values), color, f"{name} (p10 {p10:.3f}, mean {mean:.3f})", 2.5)
    return chart.svg()


if __name__ == "__main__":
    if len(sys.argv) < 3 or any("=" not in word or ":" not in word for word in sys.argv[2:]):
        sys.exit(__doc__)
    named = []
    for word in sys.argv[2:]:
        name, _, place = word.partition("=")
        path, _, column = place.rpartition(":")
        named.append((name, accuracies(path, column)))
    if len(named) > len(svg_chart.COLORS):
        sys.exit(f"plot_clients.py: got {len(named)} curves, expected at most {len(svg_chart.COLORS)}")
    picture = draw(named)
    with open(sys.argv[1], "w", encoding="utf-8") as output:
        output.write(picture)
