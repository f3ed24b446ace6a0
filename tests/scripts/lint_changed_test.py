"""Runs the script in a repository of its own with a stand-in for clang-tidy that prints how it is called."""

import json
import os
import shutil
import subprocess
import unittest

from tree import SCRIPTS, TreeTest


class LintChanged(TreeTest):
    def setUp(self):
        super().setUp()
        os.makedirs(os.path.join(self.root, "scripts"))
        shutil.copy(os.path.join(SCRIPTS, "lint_changed.sh"), os.path.join(self.root, "scripts"))
        self.tidy('echo "tidy $4"')
        self.write("bin/cmake", "#!/bin/sh\nexit 0\n", executable=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def tidy(self, body):
        self.write("bin/clang-tidy", f"#!/bin/sh\n{body}\n", executable=True)

    def git(self, *arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True)

    def commit(self, **files):
        for name, text in files.items():
            self.write(f"src/{name}.cpp", text)
        self.git("add", "src")
        self.git("commit", "--quiet", "-m", "change")

    def compile(self, *names):
        entries = [{"directory": self.root, "command": f"g++  -c {name}", "file": f"{self.root}/src/{name}.cpp"}
                   for name in names]
        self.write("build/lint/compile_commands.json", json.dumps(entries, indent=0))

    def run_lint(self, *arguments):
        path = os.path.join(self.root, "bin") + os.pathsep + os.environ["PATH"]
        return subprocess.run(["scripts/lint_changed.sh", *arguments], cwd=self.root, capture_output=True, text=True,
                              check=False, env={**os.environ, "PATH": path})

    def test_checks_what_differs_from_the_main_branch(self):
        self.compile("a", "b")
        self.commit(a="1", b="1")
        self.git("update-ref", "refs/remotes/origin/main", "HEAD")
        self.commit(b="2")
        result = self.run_lint()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("tidy src/b.cpp", result.stdout)
        self.assertNotIn("src/a.cpp", result.stdout)

    def test_checks_the_last_commits_where_there_is_no_main_branch_to_compare_with(self):
        self.compile("a", "b")
        self.commit(a="1", b="1")
        self.commit(a="2")
        result = self.run_lint()
        self.assertIn("tidy src/a.cpp", result.stdout)

    def test_removed_and_uncompiled_sources_are_left_out(self):
        self.compile("a")
        self.commit(a="1", b="1", c="1")
        self.git("update-ref", "refs/remotes/origin/main", "HEAD")
        self.git("rm", "--quiet", "src/c.cpp")
        self.commit(b="2")
        result = self.run_lint()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("not compiled here: src/b.cpp", result.stdout)
        self.assertIn("nothing to check", result.stdout)

    def test_says_how_many_files_are_left_out(self):
        names = [f"f{i:02}" for i in range(17)]
        self.compile(*names)
        self.git("commit", "--quiet", "--allow-empty", "-m", "start")
        self.git("update-ref", "refs/remotes/origin/main", "HEAD")
        self.commit(**{name: "1" for name in names})
        result = self.run_lint()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("lint: the first 6 of 17 changed files; 11 are left out", result.stdout)
        self.assertEqual(result.stdout.count("tidy src/"), 6)

    def test_a_finding_fails(self):
        self.compile("a")
        self.tidy("exit 1")
        self.commit(a="1")
        self.assertNotEqual(self.run_lint("src/a.cpp").returncode, 0)

    def test_uses_the_flags_it_configures(self):
        self.compile("a")
        self.write("bin/cmake", "#!/bin/sh\n[ $# = 2 ] && sed -i s/g++/g++-of-the-preset/ build/lint/*.json\nexit 0\n",
                   executable=True)
        self.tidy('cat "$3/compile_commands.json"')
        self.commit(a="1")
        self.assertIn("g++-of-the-preset  -c a", self.run_lint("src/a.cpp").stdout)

    def test_without_flags_it_says_why(self):
        self.commit(a="1")
        self.write("bin/cmake", "#!/bin/sh\necho no such preset\nexit 1\n", executable=True)
        result = self.run_lint()
        self.assertEqual(result.returncode, 1)
        self.assertIn("no such preset", result.stderr)


if __name__ == "__main__":
    unittest.main()
