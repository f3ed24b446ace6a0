#!/usr/bin/env bash
# Measures what the program survives: faults are injected into real jobs, row by row, and counted.
#
#   scripts/fault_matrix.sh                     all rows, as many trials as each row asks for
#   scripts/fault_matrix.sh --rows F1 F17       these rows
#   scripts/fault_matrix.sh --trials 20         at most 20 more trials of each row
#   scripts/fault_matrix.sh --quick             a few trials of each quick row (CI; under a minute)
#   scripts/fault_matrix.sh --report            write the table of docs/reliability.md from what ran
#   scripts/fault_matrix.sh --rows soak --minutes 60
#
# Rows whose faults are the program's own (F8, F18, F18b) run another build of it, when it is there:
#   cmake --preset failpoints && cmake --build --preset failpoints
#
# Results are kept in tests/fault/results.json and added to: a row may be run in pieces, on several days.
# Trials are numbered, and the number is the seed of everything random in a trial.
set -euo pipefail
cd "$(dirname "$0")/.."
program=${SUPERSTEP_PROGRAM:-build/release/superstep}
if [ ! -x "$program" ]; then
  cmake --preset release && cmake --build --preset release --target superstep
fi
failpoints=${SUPERSTEP_FAILPOINT_PROGRAM:-build/failpoints/superstep}
if [ -x "$failpoints" ]; then
  set -- --failpoint-program "$failpoints" "$@"
fi
exec python3 tests/fault/fault_matrix.py --program "$program" "$@"
