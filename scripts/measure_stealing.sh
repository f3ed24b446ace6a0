#!/usr/bin/env bash
# One of two ranks at half speed: how long does a training take with slots dealt in advance, dealt by
# measured speed, and with work stealing? The second rank shares its core with an endless loop, which the
# scheduler gives half of it. Checks that all runs end with the same parameters, and writes the section
# "stealing" of docs/benchmarks.md.
#
#   ./scripts/measure_stealing.sh [BUILD_DIRECTORY]       default build/release; nothing else should run
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-build/release}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
rounds=3
work=$(mktemp -d)
hog=
stop_hog() {
  if [ -n "$hog" ]; then
    kill "$hog" 2>/dev/null || true
    wait "$hog" 2>/dev/null || true
    hog=
  fi
}
trap 'stop_hog; rm -rf "$work"' EXIT

cat >"$work/run.toml" <<'TOML'
[model]
preset = "mcmahan_cnn"

[data]
format = "synthetic"
num_train = 10240
num_test = 128
num_classes = 10
sample_shape = [1, 28, 28]

[train]
epochs = 1
global_batch = 256
microbatches = 16
evaluate_every_epochs = 1000000

[optimizer]
kind = "momentum"
learning_rate = 0.01
TOML

# run NAME PLACEMENT: appends "NAME seconds hash" to results.
run() {
  local out="$work/$1-$RANDOM"
  # Rank 0 on core 0, rank 1 on core 1.
  mpirun -n 2 --bind-to core "$build/superstep" train "$work/run.toml" --out "$out" \
    --set "train.slot_placement=$2" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  python3 - "$1" "$out" >>"$work/results" <<'PYTHON'
import json, pathlib, sys
name, out = sys.argv[1], pathlib.Path(sys.argv[2])
done = json.loads((out / "summary.json").read_text())
print(name, done["time_seconds"]["supersteps_by_rank"]["total"]["max"], done["parameters_hash"])
PYTHON
}

for ((round = 0; round < rounds; ++round)); do
  run healthy-contiguous contiguous
  run healthy-stealing stealing
  taskset -c 1 sh -c 'while :; do :; done' &
  hog=$!
  run slowed-contiguous contiguous
  run slowed-measured measured
  run slowed-stealing stealing
  stop_hog
done
cat "$work/results"
./scripts/stealing_report.py "$work/results" docs/benchmarks.md
