#!/usr/bin/env bash
# Compares training steps with PyTorch's on this machine and writes a section of docs/benchmarks.md:
# one process against one process, and two ranks against DistributedDataParallel over gloo. Needs the
# program (build/release/superstep, or SUPERSTEP=path), Debian's python3-torch, and OpenBLAS, without which
# that multiplies with the reference BLAS, twenty times slower; installs what is missing (as root or through sudo).
#
#   ./scripts/compare_pytorch.sh [--models cnn,mlp] [--repetitions 5] [--seconds 3]
set -euo pipefail
cd "$(dirname "$0")/.."

blas() { readlink -f /usr/lib/*/libblas.so.3; }

if ! /usr/bin/python3 -c 'import torch' 2>/dev/null || [[ $(blas) != *openblas* ]]; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update --quiet
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --quiet --yes --no-install-recommends python3-torch libopenblas0-pthread
fi
if [[ $(blas) != *openblas* ]]; then
  echo "compare_pytorch.sh: the peer would use $(blas), expected OpenBLAS (update-alternatives --config" \
    "libblas.so.3-$(uname -m)-linux-gnu)" >&2
  exit 1
fi
exec /usr/bin/python3 scripts/compare_pytorch.py "$@"
