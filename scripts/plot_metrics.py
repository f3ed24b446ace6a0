#!/usr/bin/env python3
"""Draws the loss and the accuracy of a run as one SVG file.

    plot_metrics.py RUN_DIR OUTPUT.svg

Reads metrics.jsonl: the training loss of each superstep (thin) and its running mean (thick), the accuracy after
each epoch, and what became of the time. Python's standard library only.
"""

import json
import os
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 380, 64, 64, 56, 92
LOSS, ACCURACY, GRID, TEXT = "#2f6db3", "#c8553d", "#d8d8d8", "#333333"
PARTS = [("compute", "#2f6db3"), ("input_wait", "#e0a526"), ("exchange", "#c8553d"), ("sync_wait", "#7a7a7a")]
SMOOTHING = 0.98


def read_metrics(directory):
    steps, epochs = [], []
    with open(os.path.join(directory, "metrics.jsonl"), encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            if entry["type"] == "superstep":
                steps.append(entry)
            elif entry["type"] == "epoch":
                epochs.append(entry)
    if not steps:
        raise SystemExit(f"plot_metrics.py: {directory}: no supersteps in metrics.jsonl")
    return steps, epochs


def running_mean(values):
    """Exponential, with the bias of the start taken out (as Adam does)."""
    mean, weight, smooth = 0.0, 0.0, []
    for value in values:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        smooth.append(mean / weight)
    return smooth


class Axes:
    def __init__(self, last_step, largest_loss, least_accuracy):
        self.last_step, self.largest_loss, self.least_accuracy = last_step, largest_loss, least_accuracy

    def x(self, step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.last_step

    def loss_y(self, loss):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(loss, self.largest_loss) / self.largest_loss)

    def accuracy_y(self, accuracy):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - accuracy) / (1 - self.least_accuracy)


def text(x, y, words, anchor="middle", color=TEXT, size=13):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" '
            f'font-size="{size}">{escape(words)}</text>')


def line(points, color, width, opacity=1.0):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}" '
            f'stroke-opacity="{opacity}"/>')


def grid(axes, epochs):
    parts = []
    for i in range(6):
        y = TOP + (HEIGHT - TOP - BOTTOM) * i / 5
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(text(LEFT - 8, y + 4, f"{axes.largest_loss * (1 - i / 5):.2f}", "end", LOSS))
        accuracy = 1 - (1 - axes.least_accuracy) * i / 5
        parts.append(text(WIDTH - RIGHT + 8, y + 4, f"{accuracy:.2f}", "start", ACCURACY))
    for epoch in epochs:
        x = axes.x(epoch["superstep"])
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
        parts.append(text(x, HEIGHT - BOTTOM + 18, f"{epoch['epoch']}"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 36, "epochs"))
    return parts


def composition(steps):
    """One bar: the shares of the whole time of all supersteps (of the rank that wrote the file)."""
    total = sum(step["seconds"]["total"] for step in steps)
    parts, x, y, width = [], LEFT, HEIGHT - 34, WIDTH - LEFT - RIGHT
    legend = LEFT
    for name, color in PARTS:
        share = sum(step["seconds"][name] for step in steps) / total
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{width * share:.2f}" height="10" fill="{color}"/>')
        words = f"{name.replace('_', ' ')} {100 * share:.1f} %"
        parts.append(f'<rect x="{legend}" y="{y + 17}" width="10" height="10" fill="{color}"/>')
        parts.append(text(legend + 15, y + 26, words, "start", size=12))
        legend += 30 + 7 * len(words)
        x += width * share
    return parts


def draw(directory):
    steps, epochs = read_metrics(directory)
    losses = [step["loss"] for step in steps]
    smooth = running_mean(losses)
    accuracies = [epoch[part]["accuracy"] for epoch in epochs
                  for part in ("test", "validation") if epoch.get(part)]
    least = min([0.8] + [int(accuracy * 20) / 20 for accuracy in accuracies])
    axes = Axes(steps[-1]["superstep"], 1.2 * sorted(smooth)[int(0.98 * (len(smooth) - 1))], least)
    every = max(1, len(steps) // 800)
    points = [(axes.x(step["superstep"]), axes.loss_y(step["loss"])) for step in steps[::every]]
    means = [(axes.x(step["superstep"]), axes.loss_y(mean))
             for step, mean in list(zip(steps, smooth))[::every]]
    body = grid(axes, epochs) + [line(points, LOSS, 1, 0.25), line(means, LOSS, 2.5)]
    judged = [(epoch, epoch.get("test") or epoch.get("validation")) for epoch in epochs]
    marks = [(axes.x(epoch["superstep"]), axes.accuracy_y(result["accuracy"]))
             for epoch, result in judged if result]
    if marks:
        body.append(line(marks, ACCURACY, 2.5))
        body += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{ACCURACY}"/>' for x, y in marks]
    body.append(text(LEFT, 26, "training loss", "start", LOSS, 15))
    body.append(text(WIDTH - RIGHT, 26, "test accuracy", "end", ACCURACY, 15))
    body += composition(steps)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'font-family="sans-serif"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
            + "\n".join(body) + "</svg>\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    picture = draw(sys.argv[1])
    with open(sys.argv[2], "w", encoding="utf-8") as output:
        output.write(picture)
