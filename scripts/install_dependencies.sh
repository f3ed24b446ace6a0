#!/usr/bin/env bash
# Installs the Debian 12 packages that building, testing and running Superstep needs and that are
# missing. Says what it installs; does nothing, and needs neither network nor rights, when nothing is
# missing. Works as root or through sudo.
#
#   ./scripts/install_dependencies.sh          what the program and its tests need
#   ./scripts/install_dependencies.sh --ci     and the tools of the checks: clang-format, clang-tidy, clang
set -euo pipefail

packages=(
  build-essential cmake ninja-build git ca-certificates python3
  libopenmpi-dev openmpi-bin
  libeigen3-dev libdnnl-dev libboost-serialization-dev
  libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libspdlog-dev libfmt-dev
  zlib1g-dev libzip-dev libxxhash-dev
  libgtest-dev libgmock-dev libbenchmark-dev strace
  dataset-fashion-mnist # the data of the examples: /usr/share/datasets/fashion-mnist
)

case "$#:${1-}" in
  0:) ;;
  1:--ci) packages+=(clang-format clang-tidy clang-14 libclang-rt-14-dev) ;;
  *)
    echo "usage: install_dependencies.sh [--ci]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install_dependencies.sh: this is not a Debian system; install by hand: ${packages[*]}" >&2
  exit 1
fi

is_installed() {
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "Dependencies: all ${#packages[@]} packages are installed."
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_dependencies.sh: needs root or sudo to install: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Dependencies: installing ${missing[*]}"
"${as_root[@]}" apt-get update --quiet
# `env`, because sudo does not pass the variable on.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
