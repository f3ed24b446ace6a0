import unittest

from tree import TreeTest


class CheckFloors(TreeTest):
    def check(self, path, *headers):
        self.write(path, "#pragma once\n" + "".join(f"#include {header}\n" for header in headers))
        return self.run_script("check_floors.py", self.root)

    def expect_clean(self, path, *headers):
        result = self.check(path, *headers)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def expect_violation(self, what, path, *headers):
        result = self.check(path, *headers)
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        self.assertIn(what, result.stdout)

    def test_lower_floors_and_the_own_folder_are_allowed(self):
        self.expect_clean("cluster/main.cpp", '"cluster/a.h"', '"worker/a.h"', '"paramserver/a.h"', '"kernels/a.h"',
                          '"bsp/a.h"', '"base/a.h"', "<vector>", "<Eigen/Core>", '"bsp/mpi/a.h"')

    def test_each_floor_refuses_the_next_one(self):
        for path, header in [("base/a.h", "kernels/b.h"), ("base/a.cpp", "bsp/b.h"), ("kernels/a.h", "paramserver/b.h"),
                             ("bsp/a.h", "paramserver/b.h"), ("paramserver/a.h", "worker/b.h"),
                             ("worker/a.h", "cluster/b.h")]:
            with self.subTest(path=path, header=header):
                self.new_tree()
                self.expect_violation(f"{path}:2: {header}", path, f'"{header}"')

    def test_kernels_and_bsp_do_not_know_each_other(self):
        self.expect_violation("kernels must not know bsp", "kernels/a.cpp", '"bsp/world.h"')
        self.expect_violation("bsp must not know kernels", "bsp/a.cpp", '"kernels/tensor.h"')

    def test_the_program_never_includes_tests(self):
        self.expect_violation("base must not include tests", "base/a.cpp", '"tests/support/a.h"')

    def test_tests_may_use_every_floor(self):
        self.expect_clean("tests/base/a_test.cpp", '"cluster/a.h"', '"bsp/a.h"', '"tests/support/a.h"')

    def test_mpi_stays_in_its_room(self):
        self.expect_clean("bsp/mpi/transport.cpp", "<mpi.h>")
        self.expect_violation("mpi.h may be included only in bsp/mpi/*.cpp", "bsp/mpi/transport.h", "<mpi.h>")
        self.new_tree()
        self.expect_violation("mpi.h may be included only", "tests/bsp/a_test.cpp", "<mpi.h>")
        self.new_tree()
        self.expect_violation("mpi.h may be included only", "worker/a.cpp", '"mpi.h"')

    def test_boost_archives_stay_in_their_rooms(self):
        header = "<boost/archive/binary_oarchive.hpp>"
        self.expect_clean("bsp/serialize.cpp", header)
        self.expect_clean("worker/models/serialize_model.cpp", header)
        self.expect_clean("paramserver/checkpoint_manifest.cpp", header)
        self.expect_violation("Boost.Serialization may be included only", "paramserver/server.cpp", header)
        self.new_tree()
        self.expect_violation("Boost.Serialization may be included only", "bsp/serialize.h",
                              "<boost/serialization/vector.hpp>")

    def test_onednn_stays_in_its_room(self):
        self.expect_clean("kernels/onednn/gemm.cpp", "<dnnl.hpp>")
        self.expect_clean("tests/kernels/onednn/gemm_test.cpp", "<oneapi/dnnl/dnnl.hpp>")
        self.expect_violation("oneDNN may be included only", "kernels/matmul.cpp", "<dnnl.hpp>")

    def test_odd_spacing_does_not_hide_an_include_and_comments_are_none(self):
        self.write("base/a.h", '  #  include   "bsp/a.h"\n')
        self.assertEqual(self.run_script("check_floors.py", self.root).returncode, 1)
        self.write("base/a.h", '// #include "bsp/a.h"\n')
        self.assertEqual(self.run_script("check_floors.py", self.root).returncode, 0)

    def test_a_tree_without_sources_is_a_mistake(self):
        self.assertEqual(self.run_script("check_floors.py", self.root).returncode, 2)


if __name__ == "__main__":
    unittest.main()
