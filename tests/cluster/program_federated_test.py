#!/usr/bin/env python3
"""superstep federated. How to run it: program_support.py."""

import gzip
import json
import pathlib
import re
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import program_support  # noqa: E402
from program_support import MPIRUN, ProgramTest  # noqa: E402


FEDERATED_CONFIG = """
[data]
format = "synthetic"
normalization = "unit"
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
                              (["--set", "checkpoint.asynchronous=false"], [*MPIRUN, "-n", "2"]),
                              (["--set", "bsp.ranks_per_node=1"], [*MPIRUN, "-n", "3"])):
            with self.subTest(flags=flags, mpirun=mpirun):
                outcome = self.train(*flags, mpirun=mpirun)
                self.assertEqual(outcome.code, 0, outcome.text)
                self.assertEqual(outcome.hash(), expected.hash())

    def test_sites_are_read_by_their_ranks_alone_with_the_bits_of_shared_data(self):
        unit = ("--set", "data.normalization=unit")
        expected = self.train(*unit)
        self.assertEqual(expected.code, 0, expected.text)
        sites = self.directory / "sites"
        divided = self.run_program("partition", self.config, "--sites", 4, "--out", sites)
        self.assertEqual(divided.code, 0, divided.text)
        self.assertRegex(divided.stdout, r"13 clients with 150 samples at 4 sites, and 40 test samples")
        self.expect_failure(self.run_program("partition", self.config, "--sites", 4, "--out", sites), 2,
                            "not an empty directory")
        config = self.write("strict.toml", FEDERATED_CONFIG.replace(
            'format = "synthetic"\nnormalization = "unit"\nnum_train = 150\nnum_test = 40\nsample_shape = [1, 6, 6]',
            f'format = "idx"\ndirectory = "{sites}"\nnormalization = "unit"').replace(
            'clients = 13\n', '').replace('partition = "dirichlet"',
                                          'partition = "sites"\nsites = 4\ndata_mode = "strict"'))
        strict = self.directory / "strict"
        for mpirun in ((), [*MPIRUN, "-n", "3"]):
            outcome = self.run_program("federated", config, "--out", f"{strict}{len(mpirun)}", mpirun=mpirun)
            self.assertEqual(outcome.code, 0, outcome.text)
            self.assertEqual(outcome.hash(), expected.hash())
        # Personal models, what clients keep for tests, and virtual time know the clients of sites, too.
        personal = ("federated.personalization=ditto", "federated.client_test_fraction=0.3",
                    "federated.evaluate_clients_every_rounds=10")
        buffered = ("federated.device.speed=log_normal", "federated.cohort=10", "federated.asynchrony.kind=fedbuff",
                    "federated.asynchrony.concurrency=8", "federated.asynchrony.buffer=3",
                    "federated.evaluate_clients_every_rounds=10")
        for number, values in enumerate((personal, buffered)):
            flags = [word for value in values for word in ("--set", value)]
            shared, out = self.directory / f"shared{number}", self.directory / f"sites{number}"
            expected_too = self.train(*unit, *flags, out=shared)
            self.assertEqual(expected_too.code, 0, expected_too.text)
            outcome = self.run_program("federated", config, "--out", out, *flags, "--set", "federated.audit=true",
                                       mpirun=[*MPIRUN, "-n", "3"])
            self.assertEqual(outcome.code, 0, outcome.text)
            self.assertEqual(outcome.hash(), expected_too.hash())
            self.assertEqual((out / "clients.tsv").read_text(), (shared / "clients.tsv").read_text())
        # Two ranks, of which each has a directory with its own two sites alone.
        own = [self.directory / f"rank{rank}" for rank in range(2)]
        for rank, directory in enumerate(own):
            directory.mkdir()
            for file in sites.glob("t10k-*"):
                shutil.copy(file, directory)
            for site in (2 * rank, 2 * rank + 1):
                (sites / f"site-{site}").rename(directory / f"site-{site}")
        command = [config, "--out", self.directory / "isolated", "--set"]
        first, second = ([*map(str, command), f"data.directory={directory}"] for directory in own)
        outcome = self.run_program("federated", *first, ":", "-n", "1", program_support.PROGRAM, "federated", *second,
                                   mpirun=[*MPIRUN, "-n", "1"])
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertEqual(outcome.hash(), expected.hash())
        # Without the sites of the other the same command for both cannot work.
        outcome = self.run_program("federated", *first[:2], self.directory / "none", *first[3:],
                                   mpirun=[*MPIRUN, "-n", "2"])
        self.expect_failure(outcome, 3, r"site-2.*no such directory")
        self.assertFalse((self.directory / "none").exists())
        # Other data at a site are noticed when the run goes on.
        labels = own[1] / "site-3" / "train-labels-idx1-ubyte"
        content = bytearray(labels.read_bytes())
        content[-1] = (content[-1] + 1) % 3
        labels.write_bytes(content)
        resume = ["--resume", "--set", "federated.rounds=22"]
        outcome = self.run_program("federated", *first, *resume, ":", "-n", "1", program_support.PROGRAM, "federated",
                                   *second, *resume, mpirun=[*MPIRUN, "-n", "1"])
        self.expect_failure(outcome, 3, r"the checkpoint is of other clients or data")

    def test_packed_files_are_unpacked_once_for_the_processes_of_a_machine(self):
        data = self.directory / "packed"
        data.mkdir()
        for name, content in program_support.idx_files(num=60).items():
            (data / f"{name}.gz").write_bytes(gzip.compress(content))
        config = self.write("packed.toml", program_support.IDX_CONFIG.replace("DIRECTORY", str(data)).replace(
            "global_batch = 6\nmicrobatches = 2\n", "evaluation_batch = 16\n") +
            "[federated]\nrounds = 3\nclients = 6\ncohort = 3\nlocal_batch = 4\n")
        temporary = self.directory / "tmp"
        temporary.mkdir()
        hashes = set()
        for mpirun in ((), [*MPIRUN, "-n", "2"], [*MPIRUN, "-n", "4"]):
            outcome = self.run_program("federated", config, "--out", self.directory / f"packed-on-{len(mpirun)}-{mpirun[-1] if mpirun else 1}",
                                       mpirun=mpirun, env={"TMPDIR": str(temporary)})
            self.assertEqual(outcome.code, 0, outcome.text)
            hashes.add(outcome.hash())
            self.assertEqual(list(temporary.glob("superstep-data-*")), [])
        self.assertEqual(len(hashes), 1)

    def test_an_audited_run_writes_down_what_left_every_rank(self):
        expected = self.train().hash()
        out = self.directory / "audited"
        audit = ["--set", "federated.audit=true", "--set", "federated.evaluate_clients_every_rounds=10"]
        outcome = self.train(*audit, "--set", "federated.rounds=12", out=out, mpirun=[*MPIRUN, "-n", "2"])
        self.assertEqual(outcome.code, 0, outcome.text)
        outcome = self.train(*audit, "--resume", out=out, mpirun=[*MPIRUN, "-n", "3"])
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertEqual(outcome.hash(), expected)
        lines = [json.loads(line) for line in (out / "audit.jsonl").read_text().splitlines()]
        self.assertEqual({line["round"] for line in lines}, set(range(1, 21)))
        self.assertEqual({line["rank"] for line in lines}, {0, 1, 2})
        types = {line["type"] for line in lines}
        self.assertLessEqual({"client_records", "update_sums", "published_parameters", "client_accuracies",
                              "evaluation_sums", "checkpoint", "checkpoint_notes"}, types)
        # A record of 13 numbers of 8 bytes for each of 5 clients and 2 ranks, to the other rank.
        sent = [line["bytes"] for line in lines if line["type"] == "client_records" and line["round"] == 3]
        self.assertEqual(sum(sent), (5 + 2) * 14 * 8)

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
            self.assertEqual(summary["federated"]["client_rounds"], 100)
            for field in ("upload_bytes", "download_bytes"):
                self.assertEqual(summary["federated"][field], sum(line[field] for line in lines if line["type"] == "round"))
            self.assertEqual(self.run_program("evaluate", out).code, 0)
        self.expect_failure(self.train(*flags, out=out), 2, r"superstep federated .*config\.toml --out .* --resume")

    PRIVATE = ("--set", "federated.sampling=poisson", "--set", "federated.weighting=uniform",
               "--set", "federated.privacy=dp_fedavg", "--set", "federated.noise_multiplier=1.5",
               "--set", "federated.delta=0.01")

    def test_a_private_run_keeps_a_ledger_that_a_dry_run_foretells(self):
        dry = self.train(*self.PRIVATE, "--dry-run", out=self.directory / "dry")
        told = re.search(r"privacy: epsilon ([\d.]+) \(PLD\), ([\d.]+) \(RDP\) at delta 0\.01 after 20 rounds", dry.stdout)
        self.assertTrue(told, dry.text)
        out = self.directory / "private"
        outcome = self.train(*self.PRIVATE, out=out, mpirun=[*MPIRUN, "-n", "2"])
        self.assertEqual(outcome.code, 0, outcome.text)
        ledger = [json.loads(line) for line in (out / "privacy.jsonl").read_text().splitlines()]
        self.assertEqual([line["round"] for line in ledger], list(range(1, 21)))
        epsilons = [line["epsilon_rdp"] for line in ledger]
        self.assertEqual(epsilons, sorted(epsilons))
        self.assertLessEqual(ledger[-1]["epsilon_pld"], epsilons[-1])
        self.assertEqual([told[1], told[2]], [f"{ledger[-1]['epsilon_pld']:.4g}", f"{epsilons[-1]:.4g}"])
        privacy = json.loads((out / "summary.json").read_text())["federated"]["privacy"]
        self.assertEqual(privacy["epsilon_rdp"], epsilons[-1])
        self.assertEqual(privacy["noise_source"], "system")
        self.assertEqual(privacy["initial_model"], "random")
        for field in ("update_noise_multiplier", "ring_deviation", "count_deviation"):
            self.assertIn(field, ledger[-1])

    def test_a_ledger_keeps_rounds_that_are_done_again(self):
        out = self.directory / "again"
        first = self.train(*self.PRIVATE, "--set", "federated.rounds=9", out=out)
        self.assertEqual(first.code, 0, first.text)
        shutil.rmtree(out / "checkpoints" / "step-00000009")  # as if it had not been reached
        again = self.train(*self.PRIVATE, "--set", "federated.rounds=12", "--resume", out=out)
        self.assertEqual(again.code, 0, again.text)
        ledger = [json.loads(line) for line in (out / "privacy.jsonl").read_text().splitlines()]
        self.assertEqual([line["round"] for line in ledger], [*range(1, 10), *range(7, 13)])
        self.assertEqual([line["executed_rounds"] for line in ledger], list(range(1, 16)))
        privacy = json.loads((out / "summary.json").read_text())["federated"]["privacy"]
        self.assertEqual(privacy["executed_rounds"], 15)
        self.assertEqual(privacy["epsilon_rdp"], ledger[-1]["epsilon_rdp"])
        # Nothing is left to do: the summary says what it said.
        self.assertEqual(self.train(*self.PRIVATE, "--set", "federated.rounds=12", "--resume", out=out).code, 0)
        again = json.loads((out / "summary.json").read_text())["federated"]["privacy"]
        self.assertEqual(again["executed_rounds"], 15)
        for epsilon in ("epsilon_rdp", "epsilon_pld"):
            self.assertAlmostEqual(again[epsilon], privacy[epsilon], places=9)

    def test_noise_of_the_seed_is_named_everywhere(self):
        out = self.directory / "test-noise"
        outcome = self.train(*self.PRIVATE, "--set", "federated.noise_source=test", "--set", "federated.rounds=2", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        self.assertIn("NOT private", outcome.stdout)
        for line in (out / "privacy.jsonl").read_text().splitlines():
            self.assertEqual(json.loads(line)["noise_source"], "test: NOT private")

    def test_an_empty_cohort_has_no_accuracies(self):
        out = self.directory / "empty"
        outcome = self.train("--set", "federated.sampling=poisson", "--set", "federated.cohort=1",
                             "--set", "federated.evaluate_clients_every_rounds=1", out=out)
        self.assertEqual(outcome.code, 0, outcome.text)
        rounds = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines() if '"round"' in line]
        self.assertTrue(any(line["cohort"] == 0 for line in rounds if line["type"] == "round"))
        for line in rounds:
            if line["type"] == "round":
                self.assertEqual(line["client_accuracy"]["cohort"] is None, line["cohort"] == 0)

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
            (["federated.partition=file", "federated.clients=100", "federated.partition_file=twice.tsv"], 3,
             r"sample 0 is given twice"),
            (["federated.partition=file"], 2, r"'federated\.clients' = 13 has no effect with federated\.partition"),
            (["federated.partition=generated", "federated.partition_seed=2"], 2, r"'federated\.partition_seed' = 2 has no"),
            (["federated.partition=generated", "federated.min_client_samples=2"], 2, r"min_client_samples' = 2 has no effect"),
            (["check.bad_numbers=skip"], 2, r"'check\.bad_numbers' = \"skip\" has no effect with federated\.rounds > 0"),
            (["checkpoint.keep_best=false"], 2, r"'checkpoint\.keep_best' = false has no effect with federated\.rounds > 0"),
            (["federated.data_mode=strict"], 2, r'federated\.partition \\?"sites\\?" or \\?"generated\\?", got'),
            (["federated.partition=sites"], 2, r"needs 'federated\.sites' = 1 or more"),
            (["federated.sites=2"], 2, r"'federated\.sites' = 2 has no effect with federated\.partition"),
            (["federated.privacy=dp_fedavg"], 2, r"accountants account for Poisson sampling"),
            (["federated.privacy=dp_fedavg", "federated.sampling=poisson"], 2, r"weighted by samples"),
            (["federated.privacy=dp_fedavg", "data.normalization=mean_std"], 2, r"computed from the data of all clients"),
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
        self.expect_failure(outcome, 6, r"no update was accepted in 2 rounds: got client \d+ (not_finite|out_of_range)")
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        rejected = [client for line in lines if line["type"] == "round" for client in line["rejected"]]
        self.assertEqual(len(rejected), 10)
        self.assertIn(rejected[0]["reason"], ("not_finite", "out_of_range"))

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
                             "--set", "federated.clients=100", "--set", "federated.partition_column=who",
                             "--set", "federated.client_test_fraction=0.2",
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
