#!/usr/bin/env python3
"""superstep federated in virtual time. How to run it: program_support.py."""

import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_federated_test import FEDERATED_CONFIG  # noqa: E402
from program_support import MPIRUN, ProgramTest  # noqa: E402

DEVICES = ("federated.device.speed=log_normal", "federated.device.dropout=0.1", "federated.device.speed_deviation=0.9")
# A cohort is a matter of rounds: back to its default.
FEDBUFF = (*DEVICES, "federated.cohort=10", "federated.asynchrony.kind=fedbuff", "federated.asynchrony.concurrency=8",
           "federated.asynchrony.buffer=3")
FEDASYNC = (*DEVICES, "federated.cohort=10", "federated.asynchrony.kind=fedasync", "federated.asynchrony.concurrency=6",
            "federated.asynchrony.staleness=hinge")
TIMED_ROUNDS = (*DEVICES, "federated.over_selection=1.5", "federated.deadline_seconds=0.4",
                "federated.device.availability=periodic", "federated.device.period_seconds=1.5",
                "federated.device.available_fraction=0.8")


class FederatedTime(ProgramTest):
    def setUp(self):
        super().setUp()
        self.config = self.write("federated.toml", FEDERATED_CONFIG)

    def federate(self, values, *flags, out=None, **options):
        self.count += 1
        sets = [word for value in values for word in ("--set", value)]
        return self.run_program("federated", self.config, "--out", out or self.directory / f"run{self.count}", *sets,
                                *flags, **options)

    @staticmethod
    def rounds_of(run):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if line["type"] == "round"]

    def test_one_hash_for_processes_lanes_and_both(self):
        worlds = ((["--lanes", "8"], ()), ([], [*MPIRUN, "-n", "2"]), ([], [*MPIRUN, "-n", "3"]),
                  ([], [*MPIRUN, "-n", "4"]), (["--lanes", "2"], [*MPIRUN, "-n", "2"]))
        for values in (TIMED_ROUNDS, FEDBUFF, FEDASYNC):
            expected = self.federate(values)
            self.assertEqual(expected.code, 0, expected.text)
            self.assertIsNotNone(expected.hash())
            for flags, mpirun in worlds:
                with self.subTest(values=values, flags=flags, mpirun=mpirun):
                    outcome = self.federate(values, *flags, mpirun=mpirun)
                    self.assertEqual(outcome.code, 0, outcome.text)
                    self.assertEqual(outcome.hash(), expected.hash())

    def test_goes_on_in_the_middle_of_flights_with_the_same_bits_and_the_same_time(self):
        for values in (TIMED_ROUNDS, FEDBUFF, FEDASYNC):
            whole = self.directory / f"whole{self.count}"
            expected = self.federate(values, out=whole)
            self.assertEqual(expected.code, 0, expected.text)
            out = self.directory / f"stopped{self.count}"
            first = self.federate([*values, "federated.rounds=8"], "--lanes", "3", out=out)
            self.assertEqual(first.code, 0, first.text)
            again = self.federate(values, "--resume", out=out, mpirun=[*MPIRUN, "-n", "2"])
            self.assertEqual(again.code, 0, again.text)
            self.assertEqual(again.hash(), expected.hash())
            keys = ("round", "virtual_seconds", "round_virtual_seconds", "selected", "cohort", "late", "dropped", "gone",
                    "stale", "staleness_mean", "staleness_max", "versions")
            rounds, expected_rounds = ([[line[key] for key in keys] for line in self.rounds_of(run)]
                                       for run in (out, whole))
            self.assertEqual(rounds, expected_rounds)
            self.assertEqual([line[0] for line in rounds], list(range(1, 21)))
            for line in rounds:
                self.assertEqual(line[3], sum(line[4:9]), line)
            time = json.loads((out / "summary.json").read_text())["federated"]["time"]
            self.assertEqual(time["virtual_seconds"], rounds[-1][1])
            # What the program forecasts without training.
            forecast = self.federate(values, "--dry-run", out=self.directory / "dry")
            self.assertEqual(forecast.code, 0, forecast.text)
            self.assertIn(f"virtual time: {rounds[-1][1]:.6g} s for 20 rounds", forecast.stdout)

    def test_time_follows_files(self):
        speeds = "".join(f"{client}\t{0.01 * (1 + client)}\t1e4\n" for client in range(13))
        self.write("devices.tsv", "client\tseconds_per_sample\tdownload_bytes_per_second\n" + speeds)
        windows = "".join(f"{client}\t0\t60\n" for client in (1, 4, 6, 9)) + "2\t60\t99\n"
        self.write("trace.tsv", "client\tbegin\tend\n" + windows)
        out = self.directory / "traced"
        values = ("federated.device.speed=file", "federated.device.profiles=devices.tsv",
                  "federated.device.availability=trace", "federated.device.trace=trace.tsv", "federated.rounds=3")
        outcome = self.federate(values, out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertEqual([line["selected"] for line in self.rounds_of(out)], [4, 4, 4])
        # A run that goes on must see the same files.
        self.write("trace.tsv", "client\tbegin\tend\n0\t0\t60\n")
        self.expect_failure(self.federate(values, "--resume", out=out), 3, r"was trained on other data")

    def test_bad_input_is_refused_before_anything_is_made(self):
        self.write("overlap.tsv", "client\tbegin\tend\n1\t0\t5\n1\t4\t9\n")
        self.write("stranger.tsv", "client\tbegin\tend\n13\t0\t5\n")
        self.write("negative.tsv", "client\tbegin\tend\n3\t-1\t5\n")
        self.write("stopped.tsv", "device\tseconds_per_sample\na\t0\n")
        asynchronous = ("federated.device.speed=log_normal", "federated.asynchrony.kind=fedbuff", "federated.cohort=10")
        traced = ("federated.device.speed=log_normal", "federated.device.availability=trace")
        rows = [
            (["federated.over_selection=1.3"], 2, r"no effect with federated\.device\.speed = \"none\""),
            (asynchronous[1:], 2, r"'federated\.asynchrony\.kind' = \"fedbuff\" needs virtual time"),
            ([*asynchronous, "federated.asynchrony.concurrency=14"], 2, r"concurrency: got 14, expected 1 to 13"),
            ([*asynchronous, "federated.asynchrony.buffer=11"], 2, r"buffer: got 11, expected 1 to 10 \(the concurr"),
            ([*asynchronous, "federated.algorithm=scaffold"], 2, r"asynchrony \(fedbuff\): not with scaffold"),
            (asynchronous[:2], 2, r"'federated\.cohort' = 5 has no effect with federated\.asynchrony\.kind"),
            ([*asynchronous, "federated.asynchrony.mixing=0.5"], 2, r"'federated\.asynchrony\.mixing' = 0\.5 has no effe"),
            ([*asynchronous, "federated.asynchrony.staleness_b=2"], 2, r"no effect with federated\.asynchrony\.staleness"),
            ([*asynchronous, "federated.privacy=dp_fedavg", "federated.sampling=poisson", "federated.weighting=uniform"],
             2, r"'federated\.sampling' = \"poisson\" has no effect"),
            ([asynchronous[0], "federated.over_selection=0.5"], 2, r"'federated\.over_selection' is out of range"),
            ([asynchronous[0], "federated.deadline_seconds=-1"], 2, r"'federated\.deadline_seconds' is out of range"),
            (["federated.device.speed=fast"], 2, r"got \"fast\", expected one of \"none\", \"log_normal\", \"file\""),
            (["federated.device.speed=file"], 2, r"'federated\.device\.profiles' is missing"),
            (["federated.device.speed=file", "federated.device.profiles=stopped.tsv"], 3, r"line 2: seconds_per_sample"),
            (traced, 2, r"'federated\.device\.trace' is missing"),
            ([*traced, "federated.device.trace=overlap.tsv"], 3, r"windows of client 1 overlap: those of lines 2 and 3"),
            ([*traced, "federated.device.trace=stranger.tsv"], 3, r'line 2: client: got "13", expected 0 to 12'),
            ([*traced, "federated.device.trace=negative.tsv"], 3, r'line 2: begin: got "-1"'),
        ]
        for values, code, pattern in rows:
            with self.subTest(values=values):
                out = self.directory / "refused"
                self.expect_failure(self.federate(values, out=out), code, pattern)
                self.assertFalse(out.exists())


if __name__ == "__main__":
    sys.exit(program_support.main(FederatedTime))
