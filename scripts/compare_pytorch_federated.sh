#!/usr/bin/env bash
# Compares rounds of federated averaging with a plain PyTorch loop on this machine and writes a section of
# docs/benchmarks.md: two ranks against one process with all its threads, on MNIST. Needs the program
# (build/release/superstep, or SUPERSTEP=path); installs PyTorch where it is missing.
#
#   ./scripts/compare_pytorch_federated.sh MNIST_DIRECTORY [--models mlp,cnn] [--repetitions 5] [--seconds 5]
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_pytorch.sh
exec /usr/bin/python3 scripts/compare_pytorch_federated.py "$@"
