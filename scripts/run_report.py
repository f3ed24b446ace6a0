#!/usr/bin/env python3
"""Writes the report page of a run: one HTML file with its curves, without scripts or links to anywhere.

    run_report.py RUN_DIR [OUTPUT.html]      OUTPUT: by default RUN_DIR/report.html

Works while a run goes on and for stopped ones. From metrics.jsonl, and summary.json and clients.tsv where they are:
losses and accuracies; for federated runs also the accuracies over clients (median, 10th to 90th percentile) of all
clients, of the cohort and of clients' own models, the distribution over clients in the end, bytes sent by clients, and
epsilon. Python's standard library only.
"""

import json
import os
import sys
from html import escape

import plot_clients
import svg_chart
from svg_chart import COLORS, Chart

STYLE = ("body{font-family:sans-serif;max-width:900px;margin:2em auto;color:#333}"
         "table{border-collapse:collapse}td,th{padding:3px 10px;text-align:left;border-bottom:1px solid #ddd}")


def read_lines(path):
    """Whole JSON lines; a run that goes on may leave a torn one."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file.read().split("\n")[:-1] if line]
    return [json.loads(line) for line in lines]


def series(entries, *path):
    """(superstep, value) of the entries that have the value."""
    points = []
    for entry in entries:
        value = entry
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            points.append((entry["superstep"], value))
    return points


def running_mean(points, smoothing=0.98):
    """Exponential, with the bias of the start taken out (as Adam does)."""
    mean, weight, smooth = 0.0, 0.0, []
    for x, value in points:
        mean = smoothing * mean + (1 - smoothing) * value
        weight = smoothing * weight + (1 - smoothing)
        smooth.append((x, mean / weight))
    return smooth


def chart_of(title, curves, last, label):
    """None without a point. Curves: (name, points, dashes)."""
    values = [value for _, points, _ in curves for _, value in points]
    if not values:
        return None
    chart = Chart(title, (0, last), (min(values), max(values)), label)
    for (name, points, dashes), color in zip(curves, COLORS):
        if points:
            chart.curve(points, color, name, dashes=dashes)
    return chart


def loss_chart(entries, last, label):
    steps = series([entry for entry in entries if entry["type"] == "superstep"], "loss")
    rounds = series([entry for entry in entries if entry["type"] == "round"], "train_loss")
    points = steps or rounds
    tests = series(entries, "test_loss")
    if not points:
        return None
    smooth = running_mean(points, 0.98 if steps else 0.8)
    most = 1.2 * sorted(value for _, value in smooth + tests)[int(0.98 * (len(smooth) + len(tests) - 1))]
    chart = Chart("loss", (0, last), (0, most), label)
    chart.curve(points, COLORS[0], width=1, opacity=0.3)
    chart.curve(smooth, COLORS[0], "training, running mean")
    if tests:
        chart.curve(tests, COLORS[1], "test")
    return chart


def accuracy_chart(entries, last, label):
    return chart_of("accuracy", [("test", series(entries, "test_accuracy"), ""),
                                 ("validation", series(entries, "validation_accuracy"), ""),
                                 ("training", series(entries, "train_accuracy"), "4 3")], last, label)


def client_chart(entries, last, label):
    """Medians over clients; areas from the 10th to the 90th percentile."""
    kinds = [("all clients, samples trained on", ("client_accuracy", "all"), ""),
             ("last cohort, samples trained on", ("client_accuracy", "cohort"), "4 3"),
             ("held-out clients", ("client_accuracy", "held_out"), ""),
             ("all clients, test samples", ("client_test_accuracy", "all"), ""),
             ("own models, test samples", ("personal_test_accuracy", "all"), ""),
             ("own models of the cohort", ("personal_test_accuracy", "cohort"), "4 3")]
    judged = [(name, {part: series(entries, *path, part) for part in ("p10", "median", "p90")}, dashes)
              for name, path, dashes in kinds]
    judged = [row for row in judged if row[1]["median"]]
    if not judged:
        return None
    values = [value for _, parts, _ in judged for points in parts.values() for _, value in points]
    chart = Chart("accuracy over clients: median, 10th to 90th percentile", (0, last), (min(values), max(values)), label)
    for (name, parts, dashes), color in zip(judged, COLORS):
        chart.area(parts["p10"], parts["p90"], color)
        chart.curve(parts["median"], color, name, dashes=dashes)
    return chart


def distribution_chart(directory):
    path = os.path.join(directory, "clients.tsv")
    if not os.path.exists(path):
        return None
    curves = []
    for name, column in (("samples trained on", "accuracy"), ("test samples", "test_accuracy"),
                         ("own models, test samples", "personal_test_accuracy")):
        try:
            curves.append((name, plot_clients.accuracies(path, column)))
        except SystemExit:
            continue
    if not curves:
        return None
    chart = Chart("part of the clients with at most this accuracy, last evaluation",
                  (min(values[0] for _, values in curves), 1.0), (0.0, 1.0), "accuracy")
    for (name, values), color in zip(curves, COLORS):
        chart.curve(plot_clients.steps(values), color, name)
    return chart


def cumulative(points):
    total, sums = 0.0, []
    for x, value in points:
        total += value
        sums.append((x, total))
    return sums


def federated_charts(entries, ledger, last, label):
    rounds = [entry for entry in entries if entry["type"] == "round"]
    if not rounds:
        return []
    mebibytes = [(x, value / 2 ** 20) for x, value in cumulative(series(rounds, "upload_bytes"))]
    return [client_chart(entries, last, label),
            chart_of("MiB sent by clients, logged rounds added up", [("updates", mebibytes, "")], last, label),
            chart_of("epsilon spent", [("RDP", series(ledger, "epsilon_rdp"), ""),
                                       ("PLD", series(ledger, "epsilon_pld"), "")], last, label)]


def rows_of(value, prefix=""):
    """A nested object as (dotted name, text)."""
    if isinstance(value, dict):
        return [row for key, inner in value.items() for row in rows_of(inner, f"{prefix}.{key}" if prefix else key)]
    return [(prefix, json.dumps(value))]


def page(directory):
    entries = read_lines(os.path.join(directory, "metrics.jsonl"))
    if not entries:
        raise SystemExit(f"run_report.py: {directory}: no lines in metrics.jsonl")
    ledger = read_lines(os.path.join(directory, "privacy.jsonl"))
    last = max(entry["superstep"] for entry in entries)
    label = "rounds" if any(entry["type"] == "round" for entry in entries) else "supersteps"
    charts = [loss_chart(entries, last, label), accuracy_chart(entries, last, label),
              *federated_charts(entries, ledger, last, label), distribution_chart(directory)]
    name = escape(os.path.basename(os.path.abspath(directory)))
    body = [f"<h1>{name}</h1>"] + [chart.svg() for chart in charts if chart]
    summary = os.path.join(directory, "summary.json")
    if os.path.exists(summary):
        with open(summary, encoding="utf-8") as file:
            rows = rows_of(json.load(file))
        body.append("<h2>summary.json</h2><table>" + "".join(
            f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in rows) + "</table>")
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
            f"<style>{STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    text = page(sys.argv[1])
    target = sys.argv[2] if len(sys.argv) == 3 else os.path.join(sys.argv[1], "report.html")
    with open(target + ".tmp", "w", encoding="utf-8") as output:
        output.write(text)
    os.replace(target + ".tmp", target)
    print(target)
