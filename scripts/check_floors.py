#!/usr/bin/env python3
"""Proves from the #include lines that the floors of the house depend downwards only.

    check_floors.py [ROOT]      ROOT: the repository, by default the one this script is in

Order: cluster > worker > paramserver > kernels, bsp > base; kernels and bsp do not know each other.
Rooms: mpi.h only in bsp/mpi/*.cpp; Boost.Serialization only in */serialize*.cpp and
paramserver/checkpoint*; oneDNN only in kernels/onednn/. Tests may use every floor, but the rooms hold
for them too: tests/kernels/onednn/ belongs to kernels/onednn/, tests/bsp/mpi/ to bsp/mpi/.

Prints one line per violation, `file:line: what`, and exits with 1 if there is any.
"""

import os
import pathlib
import re
import sys

# Floor of each folder; a file may include its own folder and folders of lower floors.
FLOORS = {"base": 0, "kernels": 1, "bsp": 1, "paramserver": 2, "worker": 3, "cluster": 4}
SCANNED = [*FLOORS, "tests", "examples"]
SUFFIXES = (".h", ".h.in", ".hpp", ".cpp", ".cc", ".inc")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

# (name, pattern of the header, patterns of the files that may include it); a file pattern is compared
# from the right, so that tests/kernels/onednn/ belongs to kernels/onednn/.
ROOMS = [
    ("mpi.h", re.compile(r"^mpi\.h$|^mpi-ext\.h$"), ["bsp/mpi/*.cpp"]),
    ("Boost.Serialization", re.compile(r"^boost/(archive|serialization)/"),
     ["*/serialize*.cpp", "paramserver/checkpoint*"]),
    ("oneDNN", re.compile(r"^(oneapi/)?dnnl"), ["kernels/onednn/*"]),
]


def room_violation(path, header):
    place = pathlib.PurePosixPath(path)
    for name, pattern, allowed in ROOMS:
        if pattern.match(header) and not any(place.match(room) for room in allowed):
            return f"{name} may be included only in {', '.join(allowed)}"
    return None


def floor_violation(path, header):
    folder = path.split("/")[0]
    target = header.split("/")[0]
    if "/" not in header or folder not in FLOORS:
        return None
    if target in ("tests", "examples"):
        return f"{folder} must not include {target}"
    if target in FLOORS and target != folder and FLOORS[target] >= FLOORS[folder]:
        return f"{folder} must not know {target}"
    return None


def check_file(root, path):
    violations = []
    with open(os.path.join(root, path), encoding="utf-8") as source:
        for number, line in enumerate(source, start=1):
            match = INCLUDE.match(line)
            if not match:
                continue
            header = match.group(2)
            for what in (room_violation(path, header), floor_violation(path, header)):
                if what:
                    violations.append(f"{path}:{number}: {header}: {what}")
    return violations


def sources(root):
    for top in SCANNED:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in names:
                if name.endswith(SUFFIXES):
                    yield os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")


def main(arguments):
    if len(arguments) > 1:
        print("usage: check_floors.py [ROOT]", file=sys.stderr)
        return 2
    root = arguments[0] if arguments else os.path.join(os.path.dirname(__file__), "..")
    paths = sorted(sources(root))
    if not paths:
        print(f"check_floors.py: no sources under {root}", file=sys.stderr)
        return 2
    violations = [violation for path in paths for violation in check_file(root, path)]
    for violation in violations:
        print(violation)
    print(f"floors: {len(paths)} files, {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
