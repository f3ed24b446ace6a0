// What the processor can do and how it rounds, as far as results depend on it.
#pragma once

#include <string>

namespace superstep {

// What the C library and oneDNN choose kernels by at run time: "avx avx2 fma avx512f …".
std::string processor_features();

// Of the calling thread: rounding mode, flushing of denormal results and inputs.
std::string floating_point_mode();

}  // namespace superstep
