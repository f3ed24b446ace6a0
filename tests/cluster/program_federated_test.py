#!/usr/bin/env python3
"""superstep federated. How to run it: program_support.py."""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import MPIRUN, ProgramTest  # noqa: E402


FEDERATED_CONFIG = """
[data]
format = "synthetic"
num_train = 150
num_test = 40
sample_shape = [1, 6, 6]
num_classes = 3

[train]
evaluation_batch = 16

[federated]
rounds = 20
clients = 13
cohort = 5
partition = "dirichlet"
local_batch = 4
client_learning_rate = 0.05
evaluate_every_rounds = 10

[checkpoint]
every_supersteps = 6
keep = 10

[[model.layers]]
kind = "flatten"

[[model.layers]]
kind = "dense"
units = 3
"""


TEXT_CONFIG = """
[data]
format = "text"
directory = "texts"
num_classes = 6
normalization = "none"
window = 4

[federated]
rounds = 8
cohort = 2
partition = "natural"
local_batch = 4
client_learning_rate = 0.3
evaluate_clients_every_rounds = 4

[[model.layers]]
kind = "embedding"
vocabulary = 6
units = 3

[[model.layers]]
kind = "flatten"

[[model.layers]]
kind = "dense"
units = 6
"""


class FederatedTest(ProgramTest):
    def setUp(self):
        super().setUp()
        self.config = self.write("federated.toml", FEDERATED_CONFIG)

    def train(self, *arguments, out=None, **options):
        self.count += 1
        out = out or self.directory / f"run{self.count}"
        return self.run_program("federated", self.config, "--out", out, *arguments, **options)


class Federated(FederatedTest):
    def test_one_hash_for_processes_lanes_and_both(self):
        expected = self.train()
        self.assertEqual(expected.code, 0, expected.text)
        self.assertIsNotNone(expected.hash())
        for flags, mpirun in ((["--lanes", "8"], ()), ([], [*MPIRUN, "-n", "2"]), ([], [*MPIRUN, "-n", "3"]),
                              ([], [*MPIRUN, "-n", "4"]), (["--lanes", "2"], [*MPIRUN, "-n", "2"]),
                              (["--set", "federated.data_mode=strict"], [*MPIRUN, "-n", "2"]),
                              (["--set", "bsp.ranks_per_node=1"], [*MPIRUN, "-n", "3"])):
            with self.subTest(flags=flags, mpirun=mpirun):
                outcome = self.train(*flags, mpirun=mpirun)
                self.assertEqual(outcome.code, 0, outcome.text)
                self.assertEqual(outcome.hash(), expected.hash())

    def test_goes_on_after_a_limit_with_the_same_bits_and_leaves_a_whole_record(self):
        for algorithm in ("fedadam", "scaffold"):
            flags = ("--set", f"federated.algorithm={algorithm}")
            expected = self.train(*flags).hash()
            out = self.directory / f"limited-{algorithm}"
            first = self.train(*flags, "--set", "federated.rounds=9", "--lanes", "2", out=out)
            self.assertEqual(first.code, 0, first.text)
            again = self.train(*flags, "--resume", out=out, mpirun=[*MPIRUN, "-n", "3"])
            self.assertEqual(again.code, 0, again.text)
            self.assertEqual(again.hash(), expected)
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            self.assertEqual([line["round"] for line in lines if line["type"] == "round"], list(range(1, 21)))
            summary = json.loads((out / "summary.json").read_text())
            self.assertEqual(summary["federated"]["rounds"], 20)
            self.assertEqual(summary["federated"]["client_rounds"], 55)
            self.assertEqual(self.run_program("evaluate", out).code, 0)
        self.expect_failure(self.train(*flags, out=out), 2, r"superstep federated .*config\.toml --out .* --resume")

    def test_a_private_run_keeps_a_ledger(self):
        out = self.directory / "private"
        outcome = self.train("--set", "federated.sampling=poisson", "--set", "federated.weighting=uniform",
                             "--set", "federated.privacy=dp_fedavg", "--set", "federated.noise_multiplier=1.5",
                             "--set", "federated.delta=0.01", out=out, mpirun=[*MPIRUN, "-n", "2"])
        self.assertEqual(outcome.code, 0, outcome.text)
        ledger = [json.loads(line) for line in (out / "privacy.jsonl").read_text().splitlines()]
        self.assertEqual([line["round"] for line in ledger], list(range(1, 21)))
        epsilons = [line["epsilon_rdp"] for line in ledger]
        self.assertEqual(epsilons, sorted(epsilons))
        self.assertLessEqual(ledger[-1]["epsilon_pld"], epsilons[-1])
        privacy = json.loads((out / "summary.json").read_text())["federated"]["privacy"]
        self.assertEqual(privacy["epsilon_rdp"], epsilons[-1])
        self.assertEqual(privacy["noise_source"], "system")

    def test_bad_input_is_refused_before_anything_is_made(self):
        self.write("twice.tsv", "index\tclient\n0\ta\n0\tb\n")
        rows = [
            (["federated.cohort=14"], 2, r"got 14 clients per round, expected 1 to 13"),
            (["federated.rounds=0"], 2, r"'federated\.clients' = 13 has no effect with federated\.rounds = 0"),
            (["federated.clients=151"], 2, r"more clients than the data can serve"),
            (["federated.ring_bits=16"], 2, r"integer range is too small for the cohort"),
            (["federated.algorithm=fedavgg"], 2, r'did you mean "fedavg"\?'),
            (["federated.mu=0.1"], 2, r"'federated\.mu' = 0\.1 has no effect with federated\.algorithm"),
            (["optimizer.kind=adam"], 2, r"'optimizer\.kind' = \"adam\" has no effect"),
            (["federated.partition=file"], 2, r"'federated\.partition_file' is missing"),
            (["federated.partition=file", "federated.partition_file=twice.tsv"], 3, r"sample 0 is given twice"),
            (["federated.privacy=dp_fedavg"], 2, r"accountants account for Poisson sampling"),
            (["federated.privacy=dp_fedavg", "federated.sampling=poisson"], 2, r"weighted by samples"),
            (["federated.client_test_fraction=1.0"], 2, r"expected a number, in \[0, 1\)"),
            (["federated.client_test_split=last"], 2, r"no effect with federated\.client_test_fraction = 0"),
            (["federated.ditto_lambda=0.5"], 2, r'no effect with federated\.personalization = "none"'),
            (["federated.personalization=ditto", "federated.ditto_lambda=-1"], 2, r"out of range: got -1"),
            (["federated.personalization=ditto", "federated.evaluate_clients_every_rounds=5"], 2,
             r"leaves nothing to judge clients' own models on"),
            (["federated.personalization=fine_tune", "federated.client_test_fraction=0.2"], 2,
             r"got evaluate_clients_every_rounds 0, expected at least 1"),
            (["federated.personalization=fedper"], 2, r"none would be averaged: got 1 of 1 layers"),
            (["federated.personalization=fedper", "federated.personal_layer_names=dens1"], 2,
             r'did you mean "dense1"\?'),
            (["federated.personalization=fedper", "federated.personal_layer_names=dense1",
              "federated.personal_layers=2"], 2, r"no effect with federated\.personal_layer_names"),
            (["federated.partition=natural"], 2, r"'federated\.clients' = 13 has no effect"),
            (["federated.feature_noise=-0.5"], 2, r"out of range: got -0\.5"),
        ]
        for values, code, pattern in rows:
            with self.subTest(values=values):
                out = self.directory / "refused"
                flags = [word for value in values for word in ("--set", value)]
                self.expect_failure(self.train(*flags, out=out), code, pattern)
                self.assertFalse(out.exists())
        self.expect_failure(self.run_program("train", self.config), 2, r"for superstep federated")

    def test_updates_that_are_no_numbers_are_rejected_and_named(self):
        out = self.directory / "rejected"
        outcome = self.train("--set", "federated.client_learning_rate=1e6", "--set", "federated.rounds=2", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        rejected = [client for line in lines if line["type"] == "round" for client in line["rejected"]]
        self.assertEqual(len(rejected), 10)
        self.assertIn(rejected[0]["reason"], ("not_finite", "out_of_range"))
        self.assertEqual(json.loads((out / "summary.json").read_text())["federated"]["rejected_updates"], 10)

    def test_dry_run_explains_and_makes_nothing(self):
        out = self.directory / "dry"
        outcome = self.train("--dry-run", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertRegex(outcome.stdout, r"clients: 13 with 150 samples, 5 per round \(fixed\)")
        self.assertFalse(out.exists())


class FederatedClients(FederatedTest):
    def personal_flags(self, kind):
        return ("--set", f"federated.personalization={kind}", "--set", "federated.client_test_fraction=0.3",
                "--set", "federated.evaluate_clients_every_rounds=10", "--set", "federated.feature_noise=0.2",
                *(("--set", "federated.personal_epochs=2") if kind != "fedper" else ()))

    # The model of one dense layer has nothing left to average when that stays with the client.
    TWO_LAYERS = '[[model.layers]]\nkind = "dense"\nunits = 4\n[[model.layers]]\nkind = "relu"\n'

    def two_layers(self):
        head, tail = FEDERATED_CONFIG.rsplit("[[model.layers]]", 1)
        self.config = self.write("two.toml", head + self.TWO_LAYERS + "[[model.layers]]" + tail)

    def personal_record(self, out):
        """What a run says of its clients: the table, the distributions and the states they are made of."""
        federated = json.loads((out / "summary.json").read_text())["federated"]
        return ((out / "clients.tsv").read_text(), federated["client_test_accuracy"],
                federated["personal_test_accuracy"], federated["own_models"])

    def test_personal_models_have_one_record_for_processes_lanes_and_both(self):
        self.two_layers()
        plain = self.train("--set", "federated.feature_noise=0.2", "--set", "federated.client_test_fraction=0.3").hash()
        for kind in ("ditto", "fedper", "fine_tune"):
            flags = self.personal_flags(kind)
            out = self.directory / f"{kind}-1"
            expected = self.train(*flags, out=out)
            self.assertEqual(expected.code, 0, expected.text)
            self.assertEqual(expected.hash() == plain, kind != "fedper")
            record = self.personal_record(out)
            # Fine-tuning is the one without state: two worlds do.
            worlds = [([], ["-n", "3"]), (["--lanes", "2"], ["-n", "2"])]
            if kind != "fine_tune":
                worlds += [([], ["-n", "2"]), ([], ["-n", "4"]), (["--lanes", "8"], None)]
            for number, (lanes, mpirun) in enumerate(worlds):
                with self.subTest(kind=kind, lanes=lanes, mpirun=mpirun):
                    out = self.directory / f"{kind}-w{number}"
                    outcome = self.train(*flags, *lanes, out=out, mpirun=[*MPIRUN, *mpirun] if mpirun else ())
                    self.assertEqual(outcome.code, 0, outcome.text)
                    self.assertEqual(outcome.hash(), expected.hash())
                    self.assertEqual(self.personal_record(out), record)

    def test_personal_models_go_on_after_a_limit_with_the_same_bits(self):
        self.two_layers()
        for kind in ("ditto", "fedper"):
            flags = self.personal_flags(kind)
            whole = self.directory / f"whole-{kind}"
            expected = self.train(*flags, out=whole).hash()
            out = self.directory / f"limited-{kind}"
            first = self.train(*flags, "--set", "federated.rounds=9", "--lanes", "2", out=out)
            self.assertEqual(first.code, 0, first.text)
            again = self.train(*flags, "--resume", out=out, mpirun=[*MPIRUN, "-n", "3"])
            self.assertEqual(again.code, 0, again.text)
            self.assertEqual(again.hash(), expected)
            self.assertEqual(self.personal_record(out), self.personal_record(whole))

    def test_clients_are_named_and_counted_in_the_table(self):
        lines = ["index\twho"] + [f"{i}\tclient {i % 13}" for i in range(150)]
        self.write("who.tsv", "\n".join(lines) + "\n")
        out = self.directory / "named"
        outcome = self.train("--set", "federated.partition=file", "--set", "federated.partition_file=who.tsv",
                             "--set", "federated.partition_column=who", "--set", "federated.client_test_fraction=0.2",
                             "--set", "federated.evaluate_clients_every_rounds=20", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        header, *rows = [line.split("\t") for line in (out / "clients.tsv").read_text().splitlines()]
        table = [dict(zip(header, row)) for row in rows]
        self.assertEqual([row["name"] for row in table], [f"client {i}" for i in range(13)])
        self.assertEqual(sum(int(row["samples"]) + int(row["test_samples"]) for row in table), 150)
        self.assertEqual(sum(int(row["in_cohort"]) for row in table), 5)
        self.assertEqual({row["personal_test_accuracy"] for row in table}, {""})
        last = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()
                if '"type":"round"' in line][-1]
        self.assertAlmostEqual(last["client_test_accuracy"]["all"]["mean"],
                               sum(float(row["test_accuracy"]) for row in table) / 13)
        self.assertIsNone(last["personal_test_accuracy"])

    def test_texts_are_divided_by_their_authors_and_in_time(self):
        texts = {"ANN": "abcab\n" * 10, "BEN": "dcba\n" * 7, "SHORT": "a", "CYN": "abdc\n" * 5}
        (self.directory / "texts").mkdir()
        self.write("texts/roles.jsonl", "".join(
            json.dumps({"client": name, "text": text}) + "\n" for name, text in texts.items()))
        self.config = self.write("text.toml", TEXT_CONFIG)
        hashes = []
        for number, (lanes, mpirun) in enumerate(([[], ()], [["--lanes", "3"], ()], [[], [*MPIRUN, "-n", "2"]])):
            out = self.directory / f"text{number}"
            outcome = self.train(*lanes, out=out, mpirun=mpirun)
            self.assertEqual(outcome.code, 0, outcome.text)
            hashes.append((outcome.hash(), (out / "clients.tsv").read_text()))
        self.assertEqual(len(set(hashes)), 1)
        header, *rows = [line.split("\t") for line in hashes[0][1].splitlines()]
        table = [dict(zip(header, row)) for row in rows]
        self.assertEqual([(row["name"], row["samples"], row["test_samples"]) for row in table],
                         [("ANN", "48", "12"), ("BEN", "25", "10"), ("CYN", "20", "5")])
        self.assertEqual(self.run_program("evaluate", self.directory / "text0").code, 0)
        rows = [("data.num_classes=7", 2, r"num_classes: got 7, expected 6"),
                ("data.normalization=unit", 2, r"texts are numbers of characters"),
                ("federated.feature_noise=0.1", 2, r"noise on them means nothing"),
                ("federated.client_test_fraction=0.2", 2, r"brings test samples of every client")]
        for value, code, pattern in rows:
            with self.subTest(value=value):
                self.expect_failure(self.train("--set", value), code, pattern)


if __name__ == "__main__":
    sys.exit(program_support.main(Federated, FederatedClients))
