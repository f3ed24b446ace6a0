#!/usr/bin/env python3
"""Trains the examples on Fashion-MNIST and writes the README's result table and picture.

    measure_results.py [PROGRAM]      PROGRAM: by default build/release/superstep

Fails, with the README left as it is, when an accuracy is below its floor, a run takes too long, or hashes differ.

Each example is trained with two ranks and timed as a whole, start-up and evaluation included; the 2NN is trained
again by other worlds, whose parameters must have the same hash. Takes a few minutes; nothing else should run
meanwhile. Python's standard library only.
"""

import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
# With the least test accuracy: what the models must reach on Fashion-MNIST.
EXAMPLES = [("softmax regression", "fashion_mnist_softmax.toml", 0.83), ("2NN", "fashion_mnist_mlp.toml", 0.888),
            ("CNN", "fashion_mnist_cnn.toml", 0.915)]
MOST_SECONDS = 300  # per run, on 2 cores
WORLDS = [("mpirun -n 1", ["-n", "1"], []), ("mpirun -n 3", ["-n", "3"], []), ("mpirun -n 4", ["-n", "4"], []),
          ("--lanes 2", None, ["--lanes", "2"]), ("--lanes 3", None, ["--lanes", "3"]),
          ("mpirun -n 2 … --lanes 2", ["-n", "2"], ["--lanes", "2"])]
BEGIN, END = "<!-- results: begin", "<!-- results: end -->"
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
FINAL = re.compile(r"^final: test_accuracy=(\S+) test_loss=(\S+) parameters_hash=(\S+)$", re.M)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                  if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores, {model}"


def train(program, example, out, processes, flags):
    prefix = [] if processes is None else ["mpirun", "--oversubscribe", "--bind-to", "none", *processes]
    command = [*prefix, program, "train", str(ROOT / "examples" / example), "--out", str(out), *flags]
    begin = time.monotonic()
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begin
    final = FINAL.search(done.stdout)
    if done.returncode != 0 or final is None:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return final.groups(), seconds


def problems(name, accuracy, least, seconds):
    """What is wrong with a result, as sentences; empty when nothing is."""
    found = []
    if not accuracy >= least:
        found.append(f"{name}: test accuracy {accuracy:.4f}, expected at least {least}")
    if seconds > MOST_SECONDS:
        found.append(f"{name}: took {seconds:.0f} s, expected at most {MOST_SECONDS} s")
    return found


def table(program, directory):
    wrong = []
    lines = ["| model (examples/) | parameters | epochs | test accuracy | time, 2 ranks | parameters_hash |",
             "|---|---|---|---|---|---|"]
    hashes = {}
    for name, example, least in EXAMPLES:
        out = directory / example
        (accuracy, _, parameters_hash), seconds = train(program, example, out, ["-n", "2"], [])
        summary = json.loads((out / "summary.json").read_text())
        hashes[example] = parameters_hash
        lines.append(f"| {name} ({example}) | {summary['model']['parameters']:,} | {summary['progress']['epochs']} "
                     f"| {float(accuracy):.4f} | {seconds:.0f} s | `{parameters_hash[5:13]}…` |")
        print(lines[-1], flush=True)
        wrong += problems(name, float(accuracy), least, seconds)
    if wrong:
        sys.exit("\n".join(wrong))
    return lines, hashes


def same_hash(program, directory, hashes):
    example = "fashion_mnist_mlp.toml"
    for number, (name, processes, flags) in enumerate(WORLDS):
        (_, _, parameters_hash), _ = train(program, example, directory / f"world{number}", processes, flags)
        if parameters_hash != hashes[example]:
            sys.exit(f"{name}: {parameters_hash}, expected {hashes[example]} as with two ranks")
        print(f"{name}: the same hash", flush=True)
    names = ", ".join(f"`{name}`" for name, _, _ in WORLDS)
    return f"The 2NN ended with the same hash under {names}."


def main():
    program = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release/superstep")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="superstep-results-") as name:
        directory = pathlib.Path(name)
        lines, hashes = table(program, directory)
        invariance = same_hash(program, directory, hashes)
        picture = ROOT / "docs/images/fashion_mnist_cnn.svg"
        picture.parent.mkdir(exist_ok=True)
        subprocess.run([ROOT / "scripts/plot_metrics.py", directory / "fashion_mnist_cnn.toml", picture], check=True)
    flags = next((line.strip() for line in version.splitlines() if "-O" in line), "")
    text = [f"{BEGIN}: written by scripts/measure_results.py -->", "## Results", "",
            f"Fashion-MNIST, `mpirun -n 2`, whole runs with start-up and evaluation; {machine()}; {flags}.", "",
            *lines, "", invariance, "",
            "![Loss, accuracy and where the time goes: the CNN on Fashion-MNIST](docs/images/fashion_mnist_cnn.svg)", END]
    readme = (ROOT / "README.md").read_text()
    begin, end = readme.index(BEGIN), readme.index(END) + len(END)
    (ROOT / "README.md").write_text(readme[:begin] + "\n".join(text) + readme[end:])


if __name__ == "__main__":
    main()
