#!/usr/bin/env python3
"""Proves that every *_test.cpp and *_benchmark.cpp is named in a CMakeLists.txt: a test that is in no
target does not exist.

    check_targets.py [ROOT]     ROOT: the repository, by default the one this script is in

A file counts as named when its folder's CMakeLists.txt, or one further up, holds its path relative to
that CMakeLists.txt outside comments. Prints one line per missing file and exits with 1 if there is any.
"""

import os
import re
import sys

SUFFIXES = ("_test.cpp", "_benchmark.cpp")
SKIPPED = {".git", "build", "runs"}
# ${CMAKE_CURRENT_SOURCE_DIR}/x_test.cpp is the same as x_test.cpp.
CURRENT_DIRECTORY = re.compile(r"\$\{CMAKE_CURRENT_(SOURCE|LIST)_DIR\}/")


def tokens_of(path):
    """The words of a CMakeLists.txt without comments; empty when there is no such file."""
    try:
        with open(path, encoding="utf-8") as lists:
            lines = [line.split("#", 1)[0] for line in lists]
    except FileNotFoundError:
        return set()
    text = CURRENT_DIRECTORY.sub("", "".join(lines))
    return set(re.split(r'[\s()";]+', text))


def is_named(root, path, cache):
    folder = os.path.dirname(path)
    while True:
        if folder not in cache:
            cache[folder] = tokens_of(os.path.join(root, folder, "CMakeLists.txt"))
        if os.path.relpath(path, folder or ".").replace(os.sep, "/") in cache[folder]:
            return True
        if not folder:
            return False
        folder = os.path.dirname(folder)


def candidates(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for name in names:
            if name.endswith(SUFFIXES):
                yield os.path.relpath(os.path.join(folder, name), root)


def main(arguments):
    if len(arguments) > 1:
        print("usage: check_targets.py [ROOT]", file=sys.stderr)
        return 2
    root = arguments[0] if arguments else os.path.join(os.path.dirname(__file__), "..")
    paths = sorted(candidates(root))
    if not paths:
        print(f"check_targets.py: no tests under {root}", file=sys.stderr)
        return 2
    cache = {}
    missing = [path for path in paths if not is_named(root, path, cache)]
    for path in missing:
        print(f"{path}: in no CMakeLists.txt")
    print(f"targets: {len(paths)} tests and benchmarks, {len(missing)} in no target")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
