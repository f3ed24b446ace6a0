#!/usr/bin/env bash
# Installs what is missing, builds everything with warnings as errors, and runs all tests but the slow
# ones. The last lines are ctest's summary; the exit code is ctest's.
#
#   ./scripts/test.sh [arguments of ctest, such as -R bsp]
#
# SUPERSTEP_TEST_DATA, when set, names a directory with the data sets of the tests that need more than
# the distribution's packages.
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_dependencies.sh
cmake --preset release -DSUPERSTEP_BUILD_TESTS=ON -DSUPERSTEP_WERROR=ON
cmake --build --preset release --parallel "$(nproc)"
exec ctest --preset release --parallel "$(nproc)" "$@"
