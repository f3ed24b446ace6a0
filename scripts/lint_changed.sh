#!/usr/bin/env bash
# clang-tidy on the C++ sources that changed: since the merge base with origin/main, or in the last
# commits when there is none or nothing differs from it. Uses the flags of build/lint, which it configures.
#
#   ./scripts/lint_changed.sh [FILE...]        FILE...: these sources instead of the changed ones
set -euo pipefail
cd "$(dirname "$0")/.."

readonly max_files=6   # about 20 s each
readonly last_commits=10

# Every source on its own and without precompiled headers, which clang-tidy cannot read.
database=build/lint/compile_commands.json
if ! configured=$({ cmake --preset lint && cmake --build --preset lint; } 2>&1); then
  echo "$configured" >&2
  exit 1
fi

changed_since() { git diff --name-only --diff-filter=d "$1" HEAD -- '*.cpp'; }

files=("$@")
if [ ${#files[@]} -eq 0 ]; then
  base=$(git merge-base HEAD origin/main 2>/dev/null || true)
  if [ -z "$base" ] || [ "$base" = "$(git rev-parse HEAD)" ]; then
    base=$(git rev-list --max-count=$((last_commits + 1)) HEAD | tail -n 1)
  fi
  changed=$(changed_since "$base")
  [ -z "$changed" ] || mapfile -t files <<<"$changed"
  if [ ${#files[@]} -gt "$max_files" ]; then
    echo "lint: the first $max_files of ${#files[@]} changed files; $((${#files[@]} - max_files)) are left out"
    files=("${files[@]:0:max_files}")
  fi
fi
# Files that no target compiles with these options (another backend's, say) have no flags to check with.
sources=()
for file in "${files[@]}"; do
  if grep -qF "\"file\": \"$PWD/$file\"" "$database"; then
    sources+=("$file")
  else
    echo "not compiled here: $file"
  fi
done
if [ ${#sources[@]} -eq 0 ]; then
  echo "lint: nothing to check"
  exit 0
fi

echo "lint: ${#sources[@]} files"
printf '%s\0' "${sources[@]}" |
  xargs -0 --max-args=1 --max-procs="$(nproc)" clang-tidy --quiet -p "${database%/*}"
