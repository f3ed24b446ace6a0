#!/usr/bin/env python3
"""Draws the loss and the accuracy of a run as one SVG file.

    plot_metrics.py RUN_DIR OUTPUT.svg

Reads metrics.jsonl: the training loss of each superstep (thin) and its running mean (thick), the accuracy after
each epoch, and what became of the time. Python's standard library only.
"""

import os
import sys

from run_report import read_lines, running_mean
from svg_chart import GRID, TEXT, line, text

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 380, 64, 64, 56, 92
LOSS, ACCURACY = "#2f6db3", "#c8553d"
PARTS = [("compute", "#2f6db3"), ("input_wait", "#e0a526"), ("exchange", "#c8553d"), ("sync_wait", "#7a7a7a")]


def read_metrics(directory):
    entries = read_lines(os.path.join(directory, "metrics.jsonl"))
    steps = [entry for entry in entries if entry["type"] == "superstep"]
    if not steps:
        raise SystemExit(f"plot_metrics.py: {directory}: no supersteps in metrics.jsonl")
    return steps, [entry for entry in entries if entry["type"] == "epoch"]


def accuracy_of(epoch):
    """On the test data, else on the validation data, else None."""
    return epoch.get("test_accuracy", epoch.get("validation_accuracy"))


class Axes:
    def __init__(self, last_step, largest_loss, least_accuracy):
        self.last_step, self.largest_loss, self.least_accuracy = last_step, largest_loss, least_accuracy

    def x(self, step):
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.last_step

    def loss_y(self, loss):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(loss, self.largest_loss) / self.largest_loss)

    def accuracy_y(self, accuracy):
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - accuracy) / (1 - self.least_accuracy)


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
    losses = [(step["superstep"], step["loss"]) for step in steps if step["loss"] is not None]
    means = running_mean(losses)
    smooth = [mean for _, mean in means]
    accuracies = [accuracy_of(epoch) for epoch in epochs if accuracy_of(epoch) is not None]
    least = min([0.8] + [int(accuracy * 20) / 20 for accuracy in accuracies])
    axes = Axes(steps[-1]["superstep"], 1.2 * sorted(smooth)[int(0.98 * (len(smooth) - 1))], least)
    every = max(1, len(steps) // 800)
    points = [(axes.x(step), axes.loss_y(loss)) for step, loss in losses[::every]]
    means = [(axes.x(step), axes.loss_y(mean)) for step, mean in means[::every]]
    body = grid(axes, epochs) + [line(points, LOSS, 1, 0.25), line(means, LOSS, 2.5)]
    marks = [(axes.x(epoch["superstep"]), axes.accuracy_y(accuracy_of(epoch)))
             for epoch in epochs if accuracy_of(epoch) is not None]
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
