#!/usr/bin/env bash
# Simulates jobs that are killed, lose power and are started again, one for every seed (tests/simulation).
#
#   scripts/simulate.sh                          seeds 0 to 9,999 of every scenario
#   scripts/simulate.sh 10000 20000              others
#   scripts/simulate.sh 17 18 checkpoint         one of them again, with what its jobs print
#
# Scenarios: checkpoint, exchange, federated, training. A failing seed is printed with the command that repeats
# it, and makes the exit code 1. SUPERSTEP_SIMULATION_BUILD names another build directory than build/release.
set -euo pipefail
cd "$(dirname "$0")/.."
begin=${1:-0}
end=${2:-10000}
build=${SUPERSTEP_SIMULATION_BUILD:-build/release}
if [ ! -f "$build/build.ninja" ]; then
  cmake --preset release -B "$build" -DSUPERSTEP_BUILD_TESTS=ON
fi
cmake --build "$build" --parallel "$(nproc)" --target simulation_tests
exec "$build/tests/simulation/simulation_tests" --seeds "$begin" "$end" "${@:3}"
