"""Line charts as SVG, for the scripts that draw. Not a program. Python's standard library only."""

import math
from xml.sax.saxutils import escape

GRID, TEXT = "#d8d8d8", "#333333"
COLORS = ["#2f6db3", "#c8553d", "#4a8f5a", "#8a5aa8", "#b08a2e", "#3a9aa8"]


def text(x, y, words, anchor="middle", color=TEXT, size=13):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" '
            f'font-size="{size}">{escape(words)}</text>')


def line(points, color, width, opacity=1.0, dashes=""):
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}" '
            f'stroke-opacity="{opacity}"{dashed}/>')


def band(lower, upper, color):
    """The area between two curves of (x, y)."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*lower, *reversed(upper)])
    return f'<polygon points="{path}" fill="{color}" fill-opacity="0.15"/>'


def ticks(low, high, most=6):
    """Round numbers that cover [low, high]: steps of 1, 2 or 5 times a power of ten."""
    span = high - low if high > low else max(abs(high), 1.0)
    exponent = math.floor(math.log10(span / most))
    factor = next(factor for factor in (1, 2, 5, 10) if factor * 10.0 ** exponent >= span / most * (1 - 1e-9))
    step = factor * 10.0 ** exponent
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(i * step, max(0, -exponent)) for i in range(first, last + 1)]


def thinned(points, most=800):
    """At most so many points, the last one among them."""
    every = max(1, len(points) // most)
    return points[::every] + ([points[-1]] if points and (len(points) - 1) % every else [])


class Chart:
    """A frame with axes; curves are given in the units of the data.

        chart = Chart("accuracy over rounds", (0, 100), (0.5, 1.0), x_label="rounds")
        chart.curve([(1, 0.6), (2, 0.7)], COLORS[0], "test")
        page += chart.svg()
    """

    WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 320, 64, 24, 44, 66

    def __init__(self, title, x_range, y_range, x_label=""):
        self.xs, self.ys = ticks(*x_range, most=10), ticks(*y_range)
        self.parts, self.legend = [], []
        right, bottom = self.WIDTH - self.RIGHT, self.HEIGHT - self.BOTTOM
        for value in self.ys:
            y = self.y(value)
            self.parts.append(f'<line x1="{self.LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
            self.parts.append(text(self.LEFT - 8, y + 4, f"{value:.6g}", "end"))
        for value in self.xs:
            x = self.x(value)
            self.parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.TOP}" y2="{bottom}" stroke="{GRID}"/>')
            self.parts.append(text(x, bottom + 18, f"{value:.6g}"))
        self.parts.append(text((self.LEFT + right) / 2, bottom + 36, x_label))
        self.parts.append(text(self.LEFT, 24, title, "start", size=15))

    def x(self, value):
        low, high = self.xs[0], self.xs[-1]
        return self.LEFT + (self.WIDTH - self.LEFT - self.RIGHT) * (value - low) / (high - low)

    def y(self, value):
        low, high = self.ys[0], self.ys[-1]
        inside = min(max(value, low), high)
        return self.TOP + (self.HEIGHT - self.TOP - self.BOTTOM) * (1 - (inside - low) / (high - low))

    def place(self, points):
        return [(self.x(x), self.y(y)) for x, y in points]

    def curve(self, points, color, name="", width=2.0, opacity=1.0, dashes=""):
        if points:
            self.parts.append(line(self.place(thinned(points)), color, width, opacity, dashes))
        if name:
            self.legend.append((name, color, dashes))

    def area(self, lower, upper, color):
        if lower:
            self.parts.append(band(self.place(lower), self.place(upper), color))

    def svg(self):
        return stacked([self])

    def drawing(self):
        """What is inside, and how high: names that do not fit into one row of the legend make the picture higher."""
        x, y = self.LEFT, self.HEIGHT - 10
        named = []
        for name, color, dashes in self.legend:
            width = 44 + 6.6 * len(name)
            if x > self.LEFT and x + width > self.WIDTH:
                x, y = self.LEFT, y + 18
            named.append(line([(x, y - 4), (x + 22, y - 4)], color, 2.5, dashes=dashes))
            named.append(text(x + 28, y, name, "start", size=12))
            x += width
        return "\n".join(self.parts + named), y + 10


def stacked(charts):
    """One picture, the charts one below the other."""
    bodies, height = [], 0
    for chart in charts:
        body, own_height = chart.drawing()
        bodies.append(f'<g transform="translate(0 {height})">{body}</g>' if height else body)
        height += own_height
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {Chart.WIDTH} {height}" '
            f'font-family="sans-serif"><rect width="{Chart.WIDTH}" height="{height}" fill="white"/>'
            + "\n".join(bodies) + "</svg>\n")
