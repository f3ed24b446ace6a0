#!/usr/bin/env bash
# From a fresh Debian 12 to a trained model: installs the packages that are missing, builds the program,
# trains a convolutional network on Fashion-MNIST with two ranks. Run again, it trains again, into a
# directory of its own.
#
#   ./scripts/quickstart.sh [arguments of `superstep train`, such as --set train.epochs=1]
set -euo pipefail
cd "$(dirname "$0")/.."

./scripts/install_dependencies.sh
cmake --preset release
cmake --build --preset release --target superstep --parallel "$(nproc)"

# Open MPI refuses root unless told twice, and more ranks than cores unless told once.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpirun=(mpirun -n 2)
cores=$(lscpu --parse=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
if [ "$cores" -lt 2 ]; then
  mpirun+=(--oversubscribe)
fi

out=runs/quickstart-$(date -u +%Y%m%d-%H%M%S)
while [ -e "$out" ]; do # two starts within a second
  out+=-again
done
set -- "${mpirun[@]}" build/release/superstep train examples/fashion_mnist_cnn.toml --out "$out" "$@"
echo "+ $*"
exec "$@"
