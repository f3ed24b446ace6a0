#!/usr/bin/env bash
# Compares boosted trees with XGBoost's hist on this machine and writes a section of docs/benchmarks.md: the same
# splits, leaves and predictions on the same data with the same parameters, and the time of a training. Needs the
# program (build/release/superstep, or SUPERSTEP=path), Debian's python3-xgboost (installed when it is missing, as
# root or through sudo), and a directory with adult/adult.data, adult/adult.test, covtype/covtype.data and
# california-housing/housing.csv.
#
#   ./scripts/compare_xgboost.sh DATA_DIRECTORY [--rounds 20] [--repetitions 5] [--only splits,time]
set -euo pipefail
cd "$(dirname "$0")/.."

if ! /usr/bin/python3 -c 'import xgboost' 2>/dev/null; then
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update --quiet
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --quiet --yes --no-install-recommends python3-xgboost
fi
exec /usr/bin/python3 scripts/compare_xgboost.py "$@"
