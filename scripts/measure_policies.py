#!/usr/bin/env python3
"""Compares the policies of the parameter server on the virtual clock; scripts/policies.sh runs it.

    measure_policies.py --program build/release/superstep [--config examples/fashion_mnist_softmax.toml]
                        [--data DIRECTORY] [--epochs 8] [--workers 1,2,4,8] [--target 0.82] [--lanes 1]

Every row is a training of the same model, data, seed and delay model. Workers differ by a log-normal factor
(deviation 0.2), each of their steps by another (deviation 0.5), and send and fetch the model at 10 MB/s. A
worker's batch is --batch samples in every row: policies that share a batch get --batch times the number of workers.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

DELAY = {"server.delay.seconds_per_sample": 0.001, "server.delay.speed_deviation": 0.2,
         "server.delay.jitter_deviation": 0.5, "server.delay.bytes_per_second": 1e7}
LOCAL_STEPS = 8


def policies(workers):
    """Name and settings of each row. One worker cannot be stale, and has no backup."""
    rows = {"bsp": {"server.policy": "bsp"}}
    if workers > 1:
        rows["ssp 1"] = {"server.policy": "ssp", "server.staleness": 1}
        rows["ssp 3"] = {"server.policy": "ssp", "server.staleness": 3}
        rows["backup"] = {"server.policy": "backup", "server.backup_workers": max(1, workers // 4)}
    rows["async"] = {"server.policy": "async"}
    rows["async adagrad"] = {"server.policy": "async", "optimizer.kind": "adagrad", "optimizer.learning_rate": 0.02,
                             "optimizer.epsilon": 1e-10}
    rows[f"local {LOCAL_STEPS}"] = {"server.policy": "local", "server.local_steps": LOCAL_STEPS}
    return rows


def train(options, workers, settings, out):
    is_async = settings["server.policy"] == "async"
    values = {"train.epochs": options.epochs, "train.early_stopping_patience": 0, "data.validation_fraction": 0,
              "train.global_batch": options.batch * (1 if is_async else workers), "train.microbatches": 8,
              "optimizer.schedule.kind": "constant", "optimizer.schedule.boundaries_epochs": "[]",
              "optimizer.schedule.gamma": 0.1, "optimizer.schedule.warmup_epochs": 0, "train.log_every_supersteps": 1,
              "server.workers": workers, "checkpoint.every_supersteps": 0, "checkpoint.keep_best": "false",
              **DELAY, **settings}
    if options.data:
        values["data.directory"] = options.data
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    command = [options.program, "train", options.config, "--out", str(out), "--lanes", str(options.lanes), *sets]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return json.loads((out / "summary.json").read_text()), [line for line in lines if line["type"] == "epoch"]


def row_of(name, workers, summary, epochs, target):
    reached = next((epoch for epoch in epochs if epoch["test_accuracy"] >= target), None)
    policy = summary["policy"]
    return {"policy": name, "workers": workers, "virtual_seconds": policy["virtual_seconds"],
            "supersteps_to_target": reached and reached["superstep"],
            "seconds_to_target": reached and reached["virtual_seconds"], "accuracy": summary["test"]["accuracy"],
            "megabytes": (policy["pushed_bytes"] + policy["fetched_bytes"]) / 1e6,
            "staleness_mean": policy["staleness_mean"], "by_staleness": policy["by_staleness"],
            "dropped": policy["shares_dropped"] / policy["shares"]}


def table(rows, target):
    print(f"| policy | workers | supersteps to {target:.0%} | virtual s to {target:.0%} | virtual s in all | MB | "
          "staleness, mean | shares by staleness | dropped | test accuracy |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        time = "not reached" if row["seconds_to_target"] is None else f"{row['seconds_to_target']:.1f}"
        steps = "not reached" if row["supersteps_to_target"] is None else row["supersteps_to_target"]
        histogram = " ".join(map(str, row["by_staleness"][:12])) + (" ..." if len(row["by_staleness"]) > 12 else "")
        print(f"| {row['policy']} | {row['workers']} | {steps} | {time} | {row['virtual_seconds']:.1f} | "
              f"{row['megabytes']:.0f} | {row['staleness_mean']:.2f} | {histogram} | {row['dropped']:.1%} | "
              f"{row['accuracy']:.4f} |")


def findings(rows, workers):
    """Known results, by virtual time of the whole run (the samples are the same)."""
    of = {row["policy"]: row for row in rows if row["workers"] == workers}
    alone = {row["policy"]: row for row in rows if row["workers"] == 1}
    local = of[f"local {LOCAL_STEPS}"]
    yield ("ssp is faster than bsp and slower than async",
           of["async"]["virtual_seconds"] < of["ssp 3"]["virtual_seconds"] < of["bsp"]["virtual_seconds"])
    yield ("ssp is staler than bsp and less stale than async",
           of["bsp"]["staleness_mean"] < of["ssp 3"]["staleness_mean"] < of["async"]["staleness_mean"])
    yield ("backup workers cut the time of an epoch", of["backup"]["virtual_seconds"] < of["bsp"]["virtual_seconds"])
    yield (f"local SGD of {LOCAL_STEPS} steps sends an eighth of the bytes (within 5 %)",
           local["megabytes"] < 1.05 * of["bsp"]["megabytes"] / LOCAL_STEPS)
    yield (f"local SGD of {LOCAL_STEPS} steps is within 0.3 points of bsp",
           local["accuracy"] > of["bsp"]["accuracy"] - 0.003)
    if alone:
        one, many = alone["async adagrad"]["seconds_to_target"], of["async adagrad"]["seconds_to_target"]
        yield ("Downpour SGD with Adagrad reaches the target sooner than one replica",
               many is not None and (one is None or many < one))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/superstep")
    parser.add_argument("--config", default="examples/fashion_mnist_softmax.toml")
    parser.add_argument("--data", default="")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", default="1,2,4,8")
    parser.add_argument("--target", type=float, default=0.82)
    parser.add_argument("--lanes", type=int, default=1)
    options = parser.parse_args()
    counts = [int(count) for count in options.workers.split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for workers in counts:
            for name, settings in policies(workers).items():
                out = pathlib.Path(work) / f"{name.replace(' ', '_')}-{workers}"
                rows.append(row_of(name, workers, *train(options, workers, settings, out), options.target))
    table(rows, options.target)
    if max(counts) > 1:
        print()
        for text, holds in findings(rows, max(counts)):
            print(f"- {'yes' if holds else 'NO'}: {text}")


if __name__ == "__main__":
    main()
