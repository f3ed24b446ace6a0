// Counts the calls of operator new by this thread. A test program that links allocation_counter.cpp
// has its operators new and delete replaced.
//
//   const std::int64_t before = allocations_of_this_thread();
//   program.run(inputs, outputs);
//   EXPECT_EQ(allocations_of_this_thread(), before);
#pragma once

#include <cstdint>

namespace superstep::testing {

std::int64_t allocations_of_this_thread();

}  // namespace superstep::testing
