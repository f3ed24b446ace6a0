"""A temporary source tree and the run of a script on it, for the tests of the scripts."""

import os
import subprocess
import tempfile
import unittest

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")


class TreeTest(unittest.TestCase):
    def setUp(self):
        self.new_tree()

    def new_tree(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.root = temporary.name

    def write(self, path, text="", executable=False):
        whole = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        with open(whole, "w", encoding="utf-8") as file:
            file.write(text)
        if executable:
            os.chmod(whole, 0o755)
        return whole

    def run_script(self, name, *arguments, **options):
        return subprocess.run([os.path.join(SCRIPTS, name), *arguments], capture_output=True, text=True,
                              check=False, **options)
