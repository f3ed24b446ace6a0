#!/usr/bin/env bash
# Builds like test.sh, then runs only the tests labelled slow: whole trainings and large messages.
#
#   ./scripts/slow_tests.sh [arguments of ctest]
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_dependencies.sh
cmake --preset release -DSUPERSTEP_BUILD_TESTS=ON -DSUPERSTEP_WERROR=ON
cmake --build --preset release --parallel "$(nproc)"
# One at a time: these tests use all cores, and some of them measure.
exec ctest --test-dir build/release --label-regex '^slow$' --output-on-failure --no-tests=error "$@"
