"""What the benchmark scripts share: running the program's bench command, medians, sections of docs/benchmarks.md."""

import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = os.environ.get("SUPERSTEP", str(ROOT / "build/release/superstep"))
REPORT = ROOT / "docs/benchmarks.md"
# Open MPI as any user and with more ranks than cores.
ENVIRONMENT = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
               "OMPI_MCA_rmaps_base_oversubscribe": "1"}

CNN_RUN = """[model]
preset = "mcmahan_cnn"

[data]
format = "synthetic"
num_train = 6400
num_test = 64
num_classes = 10
sample_shape = [1, 28, 28]

[train]
epochs = 100
global_batch = {global_batch}
microbatches = {microbatches}
evaluate_every_epochs = 1000000
log_every_supersteps = 1

[optimizer]
kind = "momentum"
learning_rate = 0.01

[checkpoint]
every_supersteps = 1000000
keep = 2
"""


def cnn_run(global_batch, microbatches):
    """The configuration of a training run of the CNN on generated data; checkpoints at its beginning and end."""
    return CNN_RUN.format(global_batch=global_batch, microbatches=microbatches)


def bench(*arguments, processes=1):
    """One run of `superstep bench --json` as a dictionary."""
    mpirun = ["mpirun", "-n", str(processes), "--bind-to", "none"] if processes > 1 else []
    run = subprocess.run([*mpirun, PROGRAM, "bench", "--json", *map(str, arguments)], env=ENVIRONMENT,
                         capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(f"superstep bench {' '.join(map(str, arguments))}: {run.stderr}")
    return json.loads(run.stdout)


def steps_for(seconds, *arguments, processes=1):
    """How many steps take about that long."""
    found = bench("--steps", 5, *arguments, processes=processes)
    return max(10, int(seconds / found["step_seconds"]["total"]))


def spread(values):
    """ "1234 (1200-1250)": median, least and largest."""
    def number(value):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number(statistics.median(values))} ({number(min(values))}-{number(max(values))})"


def machine_lines(machine):
    return (f"Machine: {machine['processor']}, {os.cpu_count()} cores, {machine['instruction_set']}. "
            f"Compiler: {machine['compiler']}, {machine['build_type']}, `{machine['build_flags']}`. "
            f"Commit {machine['commit']}.")


def command_line(script):
    """The line that says how the figures were made."""
    words = [pathlib.Path(word).name.upper() if word.startswith("/") else word for word in sys.argv[1:]]
    return f"Command: `{shlex.join(['./scripts/' + script, *words])}`"


def write_section(name, title, lines):
    """Replaces (or appends) the section between its markers; what people wrote around it stays."""
    begin, end = f"<!-- {name}: begin, written by scripts/{name} -->", f"<!-- {name}: end -->"
    section = "\n".join([begin, f"## {title}", "", *lines, end])
    text = REPORT.read_text() if REPORT.exists() else "# Benchmarks\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    text = pattern.sub(lambda _: section, text) if pattern.search(text) else text.rstrip() + "\n\n" + section + "\n"
    REPORT.write_text(text)
    print(section)
