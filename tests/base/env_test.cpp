#include "base/env.h"

#include <string>

#include <gtest/gtest.h>

#include "base/error.h"

namespace superstep {
namespace {

constexpr const char* kName = "SUPERSTEP_TEST_ENV_VARIABLE";

TEST(Environment, UnsetAndEmptyAreDifferent) {
  unset_environment(kName);
  EXPECT_EQ(environment_variable(kName), std::nullopt);
  set_environment(kName, "");
  EXPECT_EQ(environment_variable(kName), "");
  unset_environment(kName);
}

TEST(Environment, IntegersAreReadWhole) {
  set_environment(kName, "-42");
  EXPECT_EQ(environment_integer(kName), -42);
  unset_environment(kName);
  EXPECT_EQ(environment_integer(kName), std::nullopt);
}

TEST(Environment, AnythingElseIsRefusedByNameAndValue) {
  for (const std::string value : {"", "4 ", "4lanes", "0x10", "9223372036854775808"}) {
    set_environment(kName, value);
    try {
      environment_integer(kName);
      ADD_FAILURE() << "accepted \"" << value << '"';
    } catch (const InvalidArgument& error) {
      EXPECT_NE(std::string(error.what()).find(kName), std::string::npos);
      EXPECT_NE(std::string(error.what()).find("got \"" + value + "\""), std::string::npos);
    }
  }
  unset_environment(kName);
}

TEST(Environment, ImpossibleNamesAreRefused) {
  EXPECT_THROW(set_environment("", "1"), InvalidArgument);
  EXPECT_THROW(set_environment("A=B", "1"), InvalidArgument);
  EXPECT_THROW(unset_environment("A=B"), InvalidArgument);
}

}  // namespace
}  // namespace superstep
