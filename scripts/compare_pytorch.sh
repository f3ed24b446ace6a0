#!/usr/bin/env bash
# Compares training steps with PyTorch's on this machine and writes a section of docs/benchmarks.md:
# one process against one process, and two ranks against DistributedDataParallel over gloo. Needs the
# program (build/release/superstep, or SUPERSTEP=path); installs PyTorch where it is missing.
#
#   ./scripts/compare_pytorch.sh [--models cnn,mlp] [--repetitions 5] [--seconds 3]
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_pytorch.sh
exec /usr/bin/python3 scripts/compare_pytorch.py "$@"
