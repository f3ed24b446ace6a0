import unittest

from tree import TreeTest


class CheckTargets(TreeTest):
    def check(self):
        return self.run_script("check_targets.py", self.root)

    def test_named_files_pass(self):
        self.write("tests/bsp/CMakeLists.txt", "add(x SOURCES a_test.cpp\n  mpi/b_test.cpp)\n")
        self.write("tests/bsp/a_test.cpp")
        self.write("tests/bsp/mpi/b_test.cpp")
        self.write("kernels/CMakeLists.txt", 'add(y "${CMAKE_CURRENT_SOURCE_DIR}/gemm_benchmark.cpp")\n')
        self.write("kernels/gemm_benchmark.cpp")
        result = self.check()
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("3 tests and benchmarks, 0 in no target", result.stdout)

    def test_a_forgotten_test_is_found(self):
        self.write("tests/bsp/CMakeLists.txt", "add(x SOURCES a_test.cpp)\n")
        self.write("tests/bsp/a_test.cpp")
        self.write("tests/bsp/b_test.cpp")
        result = self.check()
        self.assertEqual(result.returncode, 1)
        self.assertIn("tests/bsp/b_test.cpp: in no CMakeLists.txt", result.stdout)

    def test_a_forgotten_benchmark_is_found(self):
        self.write("kernels/CMakeLists.txt", "add(x)\n")
        self.write("kernels/gemm_benchmark.cpp")
        self.assertEqual(self.check().returncode, 1)

    def test_a_name_in_a_comment_does_not_count(self):
        self.write("tests/CMakeLists.txt", "# a_test.cpp\nadd(x SOURCES) # a_test.cpp\n")
        self.write("tests/a_test.cpp")
        self.assertEqual(self.check().returncode, 1)

    def test_part_of_another_name_does_not_count(self):
        self.write("tests/CMakeLists.txt", "add(x SOURCES extra_test.cpp)\n")
        self.write("tests/extra_test.cpp")
        self.write("tests/a_test.cpp")
        self.assertEqual(self.check().returncode, 1)

    def test_the_same_name_in_another_folder_does_not_count(self):
        self.write("tests/a/CMakeLists.txt", "add(x SOURCES x_test.cpp)\n")
        self.write("tests/a/x_test.cpp")
        self.write("tests/b/CMakeLists.txt", "")
        self.write("tests/b/x_test.cpp")
        result = self.check()
        self.assertEqual(result.returncode, 1)
        self.assertIn("tests/b/x_test.cpp", result.stdout)
        self.assertNotIn("tests/a/x_test.cpp", result.stdout)

    def test_build_directories_are_not_searched(self):
        self.write("tests/CMakeLists.txt", "add(x SOURCES a_test.cpp)\n")
        self.write("tests/a_test.cpp")
        self.write("build/release/copied_test.cpp")
        self.assertEqual(self.check().returncode, 0)

    def test_a_tree_without_tests_is_a_mistake(self):
        self.assertEqual(self.check().returncode, 2)


if __name__ == "__main__":
    unittest.main()
