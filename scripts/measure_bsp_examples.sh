#!/usr/bin/env bash
# Predicted and measured cost of the BSP examples, side by side: one rank, two lanes, two processes.
#
#   ./scripts/measure_bsp_examples.sh [BUILD_DIRECTORY]      default build/release; nothing else should run
#
# Fails when a measured time is not within 25 % of w + g*h + l. As many ranks as cores at most.
set -uo pipefail
cd "$(dirname "$0")/.."

build=${1:-build/release}/examples/bsp
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failed=0
for example in inner_product sample_sort matrix_multiply pagerank; do
  if [ ! -x "$build/$example" ]; then
    echo "measure_bsp_examples.sh: no $build/$example: build it first" >&2
    exit 1
  fi
  for elements in 1000000 4000000; do
    options=(--elements "$elements" --rounds 9 --within 0.25)
    "$build/$example" --lanes 1 "${options[@]}" || failed=$((failed + 1))
    "$build/$example" --lanes 2 "${options[@]}" || failed=$((failed + 1))
    mpirun -n 2 --bind-to core "$build/$example" "${options[@]}" || failed=$((failed + 1))
  done
done
echo "$failed of 24 not within 25 %"
[ "$failed" -eq 0 ]
