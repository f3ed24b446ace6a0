// How much memory the machine has.
//
//   if (needed > physical_memory_bytes()) throw InvalidArgument(...);   // before allocating
#pragma once

#include <cstdint>

namespace superstep {

// Of the whole machine, whoever uses it; swap does not count.
std::int64_t physical_memory_bytes();

}  // namespace superstep
