#!/usr/bin/env bash
# Installs what comparisons with PyTorch need, where it is missing (as root or through sudo): Debian's
# python3-torch, and OpenBLAS, without which that multiplies with the reference BLAS, twenty times slower.
set -euo pipefail

blas() { readlink -f /usr/lib/*/libblas.so.3; }

if ! /usr/bin/python3 -c 'import torch' 2>/dev/null || [[ $(blas) != *openblas* ]]; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update --quiet
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --quiet --yes --no-install-recommends python3-torch libopenblas0-pthread
fi
if [[ $(blas) != *openblas* ]]; then
  echo "install_pytorch.sh: the peer would use $(blas), expected OpenBLAS (update-alternatives --config" \
    "libblas.so.3-$(uname -m)-linux-gnu)" >&2
  exit 1
fi
