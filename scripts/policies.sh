#!/usr/bin/env bash
# The policies of the parameter server under one delay model: virtual time to a target accuracy, traffic, staleness and
# final accuracy by policy and number of workers. Writes a Markdown table; the known qualitative results are checked
# one by one below it, and the ones that did not appear are named.
#
#   ./scripts/policies.sh [BUILD_DIRECTORY] [MORE OPTIONS OF measure_policies.py]      default build/release
#
# The bits, and so the table, are the same on any machine with the same instruction set and binary.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-build/release}
shift || true
exec python3 scripts/measure_policies.py --program "$build/superstep" "$@"
