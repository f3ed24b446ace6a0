#!/usr/bin/env bash
# Fuzzes the parsers of untrusted bytes with libFuzzer, address and undefined sanitizers.
#
#   scripts/fuzz.sh                         every target for 60 seconds, one after the other
#   scripts/fuzz.sh --ci                    the same, as many at once as there are processors; beside other work, so
#                                           that an input counts as endless after a minute instead of 5 s
#   scripts/fuzz.sh --executions 1000000    every target that often
#   scripts/fuzz.sh --executions 1000 idx   one target
#   scripts/fuzz.sh idx -only_ascii=1       one target, with libFuzzer's own options
#   scripts/fuzz.sh --list                  the targets (tests/fuzz)
#
# The last lines say of every target how often it ran, how many inputs reached new code, and whether it crashed. New
# inputs are kept in build/fuzz/corpus/TARGET, logs in build/fuzz/logs, and the input of a crash in
# build/fuzz/crashes; then the exit code is 1. `-merge=1` into tests/fuzz/corpus/TARGET keeps the interesting ones for
# the ordinary tests.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
programs=$root/build/asan/tests/fuzz
build=$root/build/fuzz
mapfile -t targets < <(sed -n 's/^superstep_add_fuzz_target(\([a-z_]*\) .*/\1/p' tests/fuzz/CMakeLists.txt)
options=(-max_total_time=60)
longest=5 # seconds for one input
at_once=1
case ${1:-} in
  --list)
    printf '%s\n' "${targets[@]}"
    exit
    ;;
  --ci)
    at_once=$(nproc)
    longest=60
    shift
    ;;
  --executions)
    options=("-runs=$2")
    shift 2
    ;;
esac
if [ $# -gt 0 ]; then
  targets=("$1")
  options+=("${@:2}")
fi

# run TARGET: its output goes to its log. Longer inputs are slower and reach nothing else; longer ones of the corpus,
# which are about length and depth, are cut here and whole in the ordinary tests.
run() {
  mkdir -p "$build/corpus/$1" "$build/crashes" "$build/logs"
  (cd "$build" && ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=0 "$programs/fuzz_$1" -max_len=4096 \
    "-timeout=$longest" -report_slow_units=60 -rss_limit_mb=1024 -malloc_limit_mb=256 -print_final_stats=1 \
    "-artifact_prefix=crashes/$1-" "${options[@]}" "corpus/$1" "$root/tests/fuzz/corpus/$1") >"$build/logs/$1.log" 2>&1
}

# summarise TARGET: one line; fails when it did not end as it should.
summarise() {
  local log=$build/logs/$1.log executions new crashes
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  new=$(sed -n 's/^stat::new_units_added: *//p' "$log")
  crashes=$(grep -c 'Test unit written to' "$log" || true)
  printf '%s: %s executions, %s new inputs, %s crashes\n' "$1" "${executions:-0}" "${new:-0}" "$crashes"
  [ "$crashes" -eq 0 ] && [ "${executions:-0}" -gt 0 ]
}

cmake --preset asan
cmake --build --preset fuzz --parallel "$(nproc)"
for target in "${targets[@]}"; do
  while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do
    wait -n || true  # the summary says how it ended
  done
  run "$target" &
done
wait || true
failed=0
for target in "${targets[@]}"; do
  summarise "$target" || {
    failed=1
    tail -n 40 "$build/logs/$target.log"
  }
done
exit $failed
