"""Runs the script with stand-ins for dpkg-query, apt-get, sudo and id that write down how they are called."""

import os
import unittest

from tree import TreeTest


class InstallDependencies(TreeTest):
    def setUp(self):
        super().setUp()
        self.calls = os.path.join(self.root, "calls")
        record = f'#!/bin/sh\necho "$(basename "$0") $*" >> {self.calls}\n'
        self.write("bin/apt-get", record, executable=True)
        self.write("bin/sudo", record + 'exec "$@"\n', executable=True)
        self.installed("*")
        self.user(0)

    def installed(self, pattern):
        # The last argument is the package.
        self.write("bin/dpkg-query", f'#!/bin/sh\nfor p; do :; done\ncase "$p" in {pattern}) printf installed;; '
                   "*) exit 1;; esac\n", executable=True)

    def user(self, number):
        self.write("bin/id", f"#!/bin/sh\necho {number}\n", executable=True)

    def run_it(self, *arguments):
        path = os.path.join(self.root, "bin") + os.pathsep + os.environ["PATH"]
        return self.run_script("install_dependencies.sh", *arguments, env={**os.environ, "PATH": path})

    def recorded(self):
        if not os.path.exists(self.calls):
            return []
        with open(self.calls, encoding="utf-8") as calls:
            return calls.read().splitlines()

    def test_nothing_missing_means_nothing_done(self):
        self.user(1000)
        result = self.run_it("--ci")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("packages are installed", result.stdout)
        self.assertEqual(self.recorded(), [])

    def test_only_what_is_missing_is_installed_and_named(self):
        self.installed("[!bn]*|nlohmann*")
        result = self.run_it()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("installing build-essential ninja-build\n", result.stdout)
        self.assertEqual(self.recorded(),
                         ["apt-get update --quiet",
                          "apt-get install --quiet --yes --no-install-recommends build-essential ninja-build"])

    def test_an_ordinary_user_goes_through_sudo(self):
        self.installed("[!g]*")
        self.user(1000)
        self.assertEqual(self.run_it().returncode, 0)
        self.assertEqual([call.split()[0] for call in self.recorded()], ["sudo", "apt-get", "sudo", "apt-get"])

    def test_without_root_and_sudo_it_says_what_to_install(self):
        self.installed("[!g]*")
        self.user(1000)
        for tool in ("bash", "dirname", "env"):
            os.symlink(f"/usr/bin/{tool}", os.path.join(self.root, "bin", tool))
        os.remove(os.path.join(self.root, "bin/sudo"))
        result = self.run_script("install_dependencies.sh", env={"PATH": os.path.join(self.root, "bin")})
        self.assertEqual(result.returncode, 1)
        self.assertIn("needs root or sudo to install: git", result.stderr)

    def test_the_tools_of_the_checks_are_installed_on_request_only(self):
        self.installed("[!c]*|cmake|ca-certificates")
        self.assertIn("are installed", self.run_it().stdout)
        self.assertIn("installing clang-format clang-tidy clang-14", self.run_it("--ci").stdout)

    def test_a_failed_installation_fails(self):
        self.installed("[!g]*")
        self.write("bin/apt-get", '#!/bin/sh\n[ "$1" = update ] || exit 100\n', executable=True)
        self.assertEqual(self.run_it().returncode, 100)

    def test_unknown_arguments_are_refused(self):
        for arguments in (["--all"], ["--ci", "more"]):
            result = self.run_it(*arguments)
            self.assertEqual(result.returncode, 2)
            self.assertIn("usage:", result.stderr)


if __name__ == "__main__":
    unittest.main()
