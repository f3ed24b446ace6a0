#!/usr/bin/env python3
"""What cmake --install puts where. How to run it: program_support.py."""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "scripts"))
import program_support  # noqa: E402
from document_links_test import broken_links  # noqa: E402
from program_support import ProgramTest  # noqa: E402


class Install(ProgramTest):
    def test_install_puts_everything_in_its_place(self):
        prefix = self.directory / "prefix"
        subprocess.run(["cmake", "--install", pathlib.Path(program_support.PROGRAM).parent, "--prefix", prefix],
                       check=True, capture_output=True)
        for path in ("bin/superstep", "share/man/man1/superstep.1", "share/bash-completion/completions/superstep",
                     "share/zsh/site-functions/_superstep", "share/fish/vendor_completions.d/superstep.fish",
                     "share/doc/superstep/examples/fashion_mnist_cnn.toml", "share/doc/superstep/docs/summary.md",
                     "share/doc/superstep/README.md", "share/doc/superstep/LICENSE"):
            self.assertTrue((prefix / path).is_file(), path)
            self.assertGreater((prefix / path).stat().st_size, 0, path)
        documents = sorted((prefix / "share/doc").rglob("*.md"))
        self.assertGreater(len(documents), 10)
        self.assertEqual([link for path in documents for link in broken_links(str(path))], [])
        # Libraries come from the system, not from wherever the program is started.
        for library in ("libmpi.so.40", "libfmt.so.9", "libz.so.1"):
            (self.directory / library).write_text("not a library")
        for program in (prefix / "bin/superstep", program_support.PROGRAM):
            version = subprocess.run([program, "--version"], cwd=self.directory, capture_output=True, text=True, check=True)
            self.assertRegex(version.stdout, r"^superstep \d+\.\d+\.\d+ \(")


if __name__ == "__main__":
    sys.exit(program_support.main(Install))
