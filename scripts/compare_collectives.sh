#!/usr/bin/env bash
# Measures the exchange, sync and allreduce against Open MPI (each of its six allreduce algorithms
# forced in turn) and, where libgloo-dev is installed, gloo. Both sides of every comparison run in turn
# in one process group; medians and spreads. Writes the section "collectives" of docs/benchmarks.md.
#
#   ./scripts/compare_collectives.sh [BUILD_DIRECTORY]      default build/release; nothing else should run
#
# The allocator of both sides keeps its memory (without that Open MPI spends large messages in page
# faults); ranks are bound to cores.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-build/release}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
run=(mpirun -n 2 --bind-to core)
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

for program in bsp/bsp_sync_benchmark bsp/bsp_allreduce_benchmark paramserver/paramserver_exchange_benchmark; do
  if [ ! -x "$build/$program" ]; then
    echo "compare_collectives.sh: no $build/$program: configure with -DSUPERSTEP_BUILD_BENCHMARKS=ON and build" >&2
    exit 1
  fi
done

"${run[@]}" "$build/bsp/bsp_sync_benchmark" 1 | tee "$results/sync.txt"
"$build/bsp/bsp_sync_benchmark" 2 | tee -a "$results/sync.txt"
"${run[@]}" "$build/paramserver/paramserver_exchange_benchmark" 1 | tee "$results/exchange.txt"
"$build/paramserver/paramserver_exchange_benchmark" 2 | tee -a "$results/exchange.txt"
for algorithm in 1 2 3 4 5 6; do
  echo "allreduce, Open MPI algorithm $algorithm"
  "${run[@]}" --mca coll_tuned_use_dynamic_rules 1 --mca coll_tuned_allreduce_algorithm "$algorithm" \
    "$build/bsp/bsp_allreduce_benchmark" --json | tee "$results/allreduce$algorithm.jsonl"
done
./scripts/collectives_report.py "$results" docs/benchmarks.md
