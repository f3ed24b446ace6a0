#!/usr/bin/env python3
"""A checkpoint reaches the disk in the order that survives a loss of power: every file is synced after its last write
and before the directory gets its final name, the manifest last; then the directory above is synced.

usage: write_order_test.py PROGRAM
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from job import Job  # noqa: E402

PROGRAM = ""
CALL = re.compile(r"^\d+\s+(\w+)\((.*)$")


def can_trace():
    return subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


class WriteOrder(unittest.TestCase):
    def events(self, asynchronous):
        """(call, path) in order: pwrite64 and fsync of what was opened, rename of its first path."""
        with tempfile.TemporaryDirectory(prefix="superstep-order-") as directory:
            job = Job(PROGRAM, directory, epochs=1, every=4, extra=("--set", f"checkpoint.asynchronous={asynchronous}"))
            trace = pathlib.Path(directory) / "trace.txt"
            job.start(["strace", "-f", "-y", "-qq", "-e", "trace=pwrite64,write,fsync,rename", "-o", str(trace), PROGRAM,
                       *job.train_words()])
            self.assertEqual(job.wait(), 0, job.text())
            found = []
            for line in trace.read_text(errors="replace").splitlines():
                call = CALL.match(line)
                if call:
                    path = re.search(r"<([^>]*)>" if call.group(1) != "rename" else r'^"([^"]*)"', call.group(2))
                    found.append((call.group(1), path.group(1) if path else ""))
            return found

    def check(self, events, superstep):
        name = f"/checkpoints/step-{superstep:08}"
        renames = [i for i, (call, path) in enumerate(events) if call == "rename" and path.endswith(name + ".tmp")]
        self.assertEqual(len(renames), 1, f"{name}: renames")
        before, after = events[:renames[0]], events[renames[0] + 1:]
        temporary = events[renames[0]][1]
        inside = [(i, call, path) for i, (call, path) in enumerate(before) if path.startswith(temporary + "/")]
        files = {path for _, _, path in inside}
        self.assertIn(temporary + "/MANIFEST", files)
        self.assertGreater(len(files), 3)
        last = {path: max(i for i, call, other in inside if other == path and "write" in call) for path in files}
        for path in files:
            self.assertTrue([i for i, call, other in inside if other == path and call == "fsync" and i > last[path]],
                            f"{path} is not synced after its last write")
        self.assertEqual(max(last, key=last.get), temporary + "/MANIFEST", "the manifest is not written last")
        self.assertTrue([i for i, event in enumerate(before) if event == ("fsync", temporary) and i > max(last.values())],
                        "the directory is not synced before it gets its name")
        self.assertIn(("fsync", temporary.rsplit("/", 1)[0]), after[:3], "the directory above is not synced")

    def test_a_checkpoint_that_is_waited_for(self):
        events = self.events("false")
        self.check(events, 0)
        self.check(events, 4)

    def test_a_checkpoint_in_the_background(self):
        self.check(self.events("true"), 4)


if __name__ == "__main__":
    PROGRAM = str(pathlib.Path(sys.argv.pop(1)).resolve())
    if not can_trace():
        print("[  SKIPPED ] strace cannot be used here")  # the CI looks for the mark
        sys.exit(0)
    unittest.main(verbosity=2)
