"""The row in which parsers get bytes that nobody wrote (tests/fuzz)."""

import functools
import pathlib
import re
import shutil
import subprocess

from job import expect
from row import Row

SOURCE = pathlib.Path(__file__).resolve().parents[2]
EXECUTIONS = 1_000_000


class FuzzedParsers(Row):
    name = "F24"
    fault = f"each fuzz target of scripts/fuzz.sh reads {EXECUTIONS:,} inputs that libFuzzer makes up"
    promise = "a result or a clear error; no crash, no leak, at most 5 s and 256 MiB at once for an input"

    @functools.cached_property
    def targets(self):
        listed = subprocess.run([SOURCE / "scripts/fuzz.sh", "--list"], capture_output=True, text=True, check=True)
        return listed.stdout.split()

    def total(self):
        return len(self.targets)

    def is_possible(self):
        built = all((SOURCE / "build/asan/tests/fuzz" / f"fuzz_{target}").exists() for target in self.targets)
        return built and shutil.which("clang-14") is not None

    def trial(self, seed):
        target = self.targets[seed % len(self.targets)]
        done = subprocess.run([SOURCE / "scripts/fuzz.sh", "--executions", str(EXECUTIONS), target],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        found = re.search(rf"^{target}: (\d+) executions, (\d+) new inputs, 0 crashes$", done.stdout, re.M)
        expect(done.returncode == 0 and found is not None, done.stdout[-3000:])
        executions = int(found.group(1))
        expect(executions >= EXECUTIONS, f"{target} ended after {executions} executions")
        return {f"executions of {target}": executions}
