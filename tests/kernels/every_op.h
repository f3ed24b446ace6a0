// Names and printing for tests that run once per op of the table.
#pragma once

#include <ostream>
#include <string>

#include <gtest/gtest.h>

#include "kernels/op_table.h"

namespace superstep::kernels {

// Found by GoogleTest through argument-dependent lookup, hence its spelling.
inline void PrintTo(const OpInfo& op, std::ostream* out) {  // NOLINT(readability-identifier-naming)
  *out << op.name;
}

inline std::string name_of_op(const ::testing::TestParamInfo<OpInfo>& info) {
  return std::string(info.param.name);
}

}  // namespace superstep::kernels
