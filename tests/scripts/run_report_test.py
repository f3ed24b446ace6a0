"""Report pages, plots and event files of runs that are written here, read back by an independent reader."""

import json
import os
import re
import struct
import subprocess
import sys
import unittest
import xml.etree.ElementTree

from tree import SCRIPTS, TreeTest

sys.path.insert(0, SCRIPTS)
import svg_chart  # noqa: E402
import tensorboard_events  # noqa: E402


def distribution(median):
    return {"clients": 4, "min": median - 0.2, "p10": median - 0.1, "median": median, "p90": median + 0.1,
            "max": median + 0.2, "mean": median, "variance": 0.01}


def federated_metrics(rounds):
    lines = []
    for number in range(1, rounds + 1):
        entry = {"type": "round", "superstep": number, "round": number, "cohort": 4, "rejected": [], "samples": 100,
                 "upload_bytes": 2 ** 20, "train_loss": 2.0 / number, "train_accuracy": 0.5,
                 "seconds": {"total": 0.5, "compute": 0.4}}
        if number % 2 == 0:
            entry.update({"test_loss": 1.0 / number, "test_accuracy": 0.8,
                          "client_accuracy": {"all": distribution(0.7), "cohort": distribution(0.75),
                                              "held_out": None},
                          "client_test_accuracy": {"all": distribution(0.65), "cohort": distribution(0.66)},
                          "personal_test_accuracy": {"all": distribution(0.85), "cohort": distribution(0.9)},
                          "own_models": 3})
        lines.append(entry)
    return "".join(json.dumps(line) + "\n" for line in lines)


TRAIN_METRICS = "".join(json.dumps(line) + "\n" for line in [
    {"type": "superstep", "superstep": 1, "epoch": 0, "loss": 2.0, "seconds": {
        "total": 0.5, "compute": 0.4, "input_wait": 0, "exchange": 0.1, "sync_wait": 0}},
    {"type": "superstep", "superstep": 2, "epoch": 0, "loss": None, "seconds": {
        "total": 0.5, "compute": 0.4, "input_wait": 0, "exchange": 0.1, "sync_wait": 0}},
    {"type": "epoch", "epoch": 1, "superstep": 2, "train_loss": 1.5, "test_loss": 1.4, "test_accuracy": 0.91},
    {"type": "checkpoint", "superstep": 2, "path": "checkpoints/step-00000002", "seconds": 0.25}])
CLIENTS = ("client\tname\tin_cohort\tsamples\taccuracy\ttest_samples\ttest_accuracy\thas_own_model\t"
           "personal_test_accuracy\n"
           "0\t\"a\t1\t20\t0.5\t4\t0.25\t1\t0.75\n1\tb\t0\t20\t0.75\t4\t0.5\t0\t0.5\n2\tc\t0\t1\t1\t0\t\t0\t\n")


def fields_of(data):
    """Protocol buffers: (number, wire type, value)."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    fields = []
    while at < len(data):
        key = number()
        if key & 7 == 0:
            value = number()
        else:
            size = {1: 8, 2: None, 5: 4}[key & 7]
            size = number() if size is None else size
            value, at = data[at:at + size], at + size
        fields.append((key >> 3, key & 7, value))
    return fields


def events_of(data):
    """[(wall time, step, {tag: value} or the file's version)]; every checksum is verified bit by bit."""
    def crc(block):
        remainder = 0xFFFFFFFF
        for byte in block:
            for bit in range(8):
                low = (remainder ^ byte >> bit) & 1
                remainder = remainder >> 1 ^ (0x82F63B78 if low else 0)
        remainder ^= 0xFFFFFFFF
        return (((remainder >> 15) | (remainder << 17)) + 0xA282EAD8) % 2 ** 32

    events, at = [], 0
    while at < len(data):
        length, checksum = struct.unpack("<QI", data[at:at + 12])
        body = data[at + 12:at + 12 + length]
        assert len(body) == length and crc(data[at:at + 8]) == checksum
        assert struct.unpack("<I", data[at + 12 + length:at + 16 + length])[0] == crc(body)
        at += 16 + length
        content, time, step = None, None, 0
        for number, _, value in fields_of(body):
            if number == 1:
                time = struct.unpack("<d", value)[0]
            elif number == 2:
                step = value
            elif number == 3:
                content = value.decode()
            else:
                pairs = [{n: v for n, _, v in fields_of(v)} for _, _, v in fields_of(value)]
                content = {pair[1].decode(): struct.unpack("<f", pair[2])[0] for pair in pairs}
        events.append((time, step, content))
    return events


class RunReport(TreeTest):
    def run_directory(self, metrics, **files):
        for name, content in {"metrics.jsonl": metrics, **{k.replace("_", "."): v for k, v in files.items()}}.items():
            self.write(f"run/{name}", content)
        return os.path.join(self.root, "run")

    def script(self, name, *arguments):
        return subprocess.run([sys.executable, os.path.join(SCRIPTS, name), *arguments], capture_output=True, text=True,
                              check=False)

    def pictures_of(self, page):
        pictures = re.findall(r"<svg .*?</svg>", page, re.S)
        for picture in pictures:
            xml.etree.ElementTree.fromstring(picture)
        return pictures

    def test_a_federated_page_has_its_curves_and_needs_nothing_else(self):
        directory = self.run_directory(federated_metrics(6), clients_tsv=CLIENTS,
                                       summary_json='{"federated": {"rounds": 6}, "run_id": "a<b"}')
        done = self.script("run_report.py", directory)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(os.path.join(directory, "report.html"), encoding="utf-8") as file:
            page = file.read()
        pictures = self.pictures_of(page)
        for title in ("loss", "accuracy", "accuracy over clients", "MiB sent by clients", "part of the clients"):
            self.assertTrue(any(f">{title}" in picture for picture in pictures), title)
        for name in ("own models, test samples", "all clients, test samples", "last cohort"):
            self.assertIn(name, page)
        self.assertNotIn("held-out clients", page)
        self.assertIn("<td>federated.rounds</td><td>6</td>", page)
        self.assertIn("a&lt;b", page)
        self.assertNotRegex(page, r"<script|<link|src=|href=")

    def test_a_centralised_page_and_plot_have_loss_and_accuracy(self):
        directory = self.run_directory(TRAIN_METRICS + '{"type":"superstep","supers')
        self.assertEqual(self.script("run_report.py", directory, os.path.join(self.root, "p.html")).returncode, 0)
        with open(os.path.join(self.root, "p.html"), encoding="utf-8") as file:
            self.assertEqual(len(self.pictures_of(file.read())), 2)
        picture = os.path.join(self.root, "p.svg")
        done = self.script("plot_metrics.py", directory, picture)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(picture, encoding="utf-8") as file:
            self.assertEqual(file.read().count("<circle"), 1)

    def test_a_directory_without_metrics_is_named(self):
        for script in ("run_report.py", "tensorboard_events.py"):
            done = self.script(script, self.root)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"{self.root}: no lines in metrics.jsonl", done.stderr)

    def test_clients_are_drawn_without_those_that_were_not_judged(self):
        path = self.write("clients.tsv", CLIENTS)
        picture = os.path.join(self.root, "c.svg")
        done = self.script("plot_clients.py", picture, f"global={path}:test_accuracy",
                           f"own={path}:personal_test_accuracy")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("global: 2 clients, least 0.2500, p10 0.2500, median 0.2500, mean 0.3750", done.stdout)
        self.assertIn("own: 2 clients, least 0.5000", done.stdout)
        xml.etree.ElementTree.parse(picture)
        done = self.script("plot_clients.py", picture, f"x={path}:acuracy")
        self.assertEqual(done.returncode, 1)
        self.assertIn('no column "acuracy"', done.stderr)

    def test_event_files_hold_every_number_in_its_place(self):
        ledger = '{"superstep":2,"round":2,"epsilon_rdp":1.5,"epsilon_pld":null}\n'
        directory = self.run_directory(federated_metrics(3), privacy_jsonl=ledger,
                                       provenance_json='{"starts":[{"time":"2026-05-01T09:30:00Z"}]}')
        done = self.script("tensorboard_events.py", directory)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(done.stdout.strip(), "rb") as file:
            events = events_of(file.read())
        self.assertEqual(events[0], (1777627800.0, 0, "brain.Event:2"))
        self.assertEqual([step for _, step, _ in events[1:]], [1, 2, 3])
        self.assertEqual([time - events[0][0] for time, _, _ in events[1:]], [0.5, 1.0, 1.5])
        self.assertEqual(events[1][2]["round/train_loss"], 2.0)
        self.assertNotIn("round/test_accuracy", events[1][2])
        self.assertAlmostEqual(events[2][2]["round/personal_test_accuracy/all/median"], 0.85, places=6)
        self.assertEqual(events[2][2]["privacy/epsilon_rdp"], 1.5)
        self.assertNotIn("privacy/epsilon_pld", events[2][2])
        self.assertNotIn("round/superstep", events[1][2])

    def test_large_steps_and_names_take_more_than_one_byte_of_length(self):
        tag = "round/" + "x" * 300
        data = tensorboard_events.record(tensorboard_events.event(
            0.5, 2 ** 40 + 3, tensorboard_events.summary([(tag, -0.25)])))
        self.assertEqual(events_of(data), [(0.5, 2 ** 40 + 3, {tag: -0.25})])

    def test_checksums_are_those_of_rfc_3720(self):
        for data, expected in ((b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43),
                               (bytes(range(32)), 0x46DD794E)):
            self.assertEqual(tensorboard_events.crc32c(data), expected)

    def test_names_of_the_legend_stay_in_the_picture(self):
        chart = svg_chart.Chart("title", (0, 1), (0, 1))
        for _ in range(5):
            chart.curve([(0, 0), (1, 1)], svg_chart.COLORS[0], "a name of thirty characters 30")
        picture = xml.etree.ElementTree.fromstring(chart.svg())
        width, height = (float(number) for number in picture.get("viewBox").split()[2:])
        words = [part for part in picture if part.text and part.text.startswith("a name")]
        self.assertEqual(len(words), 5)
        for part in words:
            self.assertLess(float(part.get("x")) + 6.6 * 30, width)
            self.assertLess(float(part.get("y")), height)
        self.assertEqual(len({(part.get("x"), part.get("y")) for part in words}), 5)

    def test_ticks_are_round_and_cover_the_range(self):
        for low, high in ((0, 60), (0.5, 0.97), (0.9, 0.9), (0, 3e-4), (0.31, 2.4), (0, 1234567), (-3, 0), (0, 0)):
            ticks = svg_chart.ticks(low, high)
            self.assertLessEqual(ticks[0], low)
            self.assertGreaterEqual(ticks[-1], high)
            self.assertTrue(2 <= len(ticks) <= 8, ticks)
        self.assertEqual(svg_chart.ticks(0.5, 0.97), [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


if __name__ == "__main__":
    unittest.main()
