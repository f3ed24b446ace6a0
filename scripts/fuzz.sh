#!/usr/bin/env bash
# Fuzzes the readers of untrusted files with libFuzzer, address and undefined sanitizers.
#
#   scripts/fuzz.sh                         every target for 60 seconds
#   scripts/fuzz.sh idx -runs=1000000       one target, with libFuzzer's own options
#
# Targets: checkpoint, config, idx, npz (tests/fuzz). New inputs that reach new code are kept in
# build/fuzz/corpus/TARGET; a crash leaves its input in build/fuzz and ends with a non-zero exit code.
# `-merge=1` into tests/fuzz/corpus/TARGET keeps the interesting ones for the ordinary tests.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=(checkpoint config idx npz)
if [ $# -gt 0 ]; then
  targets=("$1")
  shift
fi
options=("$@")
[ ${#options[@]} -gt 0 ] || options=(-max_total_time=60)
cmake -S . -B build/fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1" \
  -DCMAKE_C_COMPILER=clang-14 -DCMAKE_CXX_COMPILER=clang++-14 -DSUPERSTEP_FUZZ=ON -DSUPERSTEP_WITH_ONEDNN=OFF \
  -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON ${SUPERSTEP_FUZZ_CMAKE:-}
for target in "${targets[@]}"; do
  cmake --build build/fuzz --target "fuzz_$target"
  mkdir -p "build/fuzz/corpus/$target"
  (cd build/fuzz && ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=0 \
    "$(find . -name "fuzz_$target" -type f -executable | head -1)" -max_len=65536 -timeout=5 -rss_limit_mb=1024 \
    -malloc_limit_mb=256 "${options[@]}" "corpus/$target" "$OLDPWD/tests/fuzz/corpus/$target")
done
