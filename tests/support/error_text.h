// What an exception says, for tests of messages:
//
//   EXPECT_THAT(error_text<InvalidArgument>([&] { reshape(x, {4}); }), HasSubstr("got shape (2,
//   3)"));
#pragma once

#include <string>

namespace superstep::testing {

// Calls action() and returns what() of the Exception that it throws; empty when it throws nothing.
// Exceptions of other types pass, so that the test fails with what they say.
template <typename Exception, typename Action>
std::string error_text(const Action& action) {
  try {
    action();
  } catch (const Exception& error) {
    return error.what();
  }
  return {};
}

}  // namespace superstep::testing
