"""Line charts as SVG for the experiment scripts: a few series over one axis, with marks. Standard library only.

    chart = Chart(title="...", x_label="rounds", y_label="accuracy", y_least=0.9, y_most=1.0)
    chart.add("seed 1", [(1, 0.91), (2, 0.93)])
    chart.mark_y("target", 0.97)
    save_charts("docs/images/curves.svg", [chart])          # one below the other
"""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 340, 72, 24, 44, 72
COLORS = ("#2f6db3", "#c8553d", "#e0a526", "#4b9460", "#7a5ba6", "#7a7a7a")
GRID, TEXT, MARK = "#d8d8d8", "#333333", "#888888"
MOST_POINTS = 800


def text(x, y, words, anchor="middle", color=TEXT, size=13):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" '
            f'font-size="{size}">{escape(words)}</text>')


def ticks(least, most, wanted=6):
    """Round numbers between, the ends included where they are round."""
    raw = (most - least) / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.ceil(least / step - 1e-9)
    return [i * step for i in range(first, math.floor(most / step + 1e-9) + 1)]


class Chart:
    def __init__(self, title, x_label, y_label, y_least, y_most):
        self.title, self.x_label, self.y_label = title, x_label, y_label
        self.y_least, self.y_most = y_least, y_most
        self.series, self.x_marks, self.y_marks = [], [], []

    def add(self, name, points):
        self.series.append((name, points))

    def mark_x(self, name, x):
        self.x_marks.append((name, x))

    def mark_y(self, name, y):
        self.y_marks.append((name, y))

    def x_most(self):
        ends = [points[-1][0] for _, points in self.series if points] + [x for _, x in self.x_marks]
        return 1.05 * max(ends, default=1)

    def x(self, value):
        return LEFT + (WIDTH - LEFT - RIGHT) * value / self.x_most()

    def y(self, value):
        inside = min(max(value, self.y_least), self.y_most)
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.y_most - inside) / (self.y_most - self.y_least)

    def draw(self):
        return "\n".join([text(LEFT, 24, self.title, "start", size=15), *self.grid(), *self.marks(), *self.lines()])

    def grid(self):
        parts = []
        for value in ticks(self.y_least, self.y_most):
            y = self.y(value)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
            parts.append(text(LEFT - 8, y + 4, f"{value:.4g}", "end"))
        for value in ticks(0, self.x_most()):
            parts.append(text(self.x(value), HEIGHT - BOTTOM + 18, f"{value:.6g}"))
        parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM + 36, self.x_label))
        parts.append(text(LEFT - 8, TOP - 8, self.y_label, "end"))
        return parts

    def marks(self):
        parts = []
        for name, value in self.y_marks:
            y = self.y(value)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{MARK}" '
                         f'stroke-dasharray="6 4"/>')
            parts.append(text(LEFT + 6, y - 5, name, "start", MARK))
        for name, value in self.x_marks:
            x = self.x(value)
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{MARK}" '
                         f'stroke-dasharray="6 4"/>')
            parts.append(text(x - 5, HEIGHT - BOTTOM - 8, name, "end", MARK))
        return parts

    def lines(self):
        parts, legend = [], LEFT
        for i, (name, points) in enumerate(self.series):
            color = COLORS[i % len(COLORS)]
            every = max(1, len(points) // MOST_POINTS)
            path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points[::every])
            parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
            parts.append(f'<rect x="{legend}" y="{HEIGHT - 24}" width="12" height="12" fill="{color}"/>')
            parts.append(text(legend + 17, HEIGHT - 14, name, "start"))
            legend += 40 + 7 * len(name)
        return parts


def save_charts(path, charts):
    """One below the other in one file."""
    bodies = "\n".join(f'<g transform="translate(0 {HEIGHT * i})">{chart.draw()}</g>' for i, chart in enumerate(charts))
    height = HEIGHT * len(charts)
    with open(path, "w", encoding="utf-8") as output:
        output.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
                     f'<rect width="{WIDTH}" height="{height}" fill="white"/>\n{bodies}</svg>\n')
