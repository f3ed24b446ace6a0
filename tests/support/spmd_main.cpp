// main of SPMD test programs: makes the Environment, lets only the root process print progress
// while failures of every process are printed with their process, and agrees on the exit code.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "bsp/environment.h"
#include "tests/support/spmd_environment.h"

namespace {

// The printer of processes other than the root: silent except for failures.
class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int process) : process_(process) {}

 private:
  // Remembered, because GoogleTest holds its lock while it reports a result.
  void OnTestStart(const ::testing::TestInfo& test) override {
    test_ = fmt::format("{}.{}", test.test_suite_name(), test.name());
  }
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.failed()) {
      const char* file = result.file_name();
      const std::string text = fmt::format("[process {}] {}: {}:{}: {}\n", process_, test_,
                                           file == nullptr ? "unknown file" : file,
                                           result.line_number(), result.message());
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
    }
  }

  std::string test_;
  int process_;
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  superstep::bsp::Environment environment;
  superstep::testing::set_spmd_environment(&environment);
  if (!environment.is_root_process()) {
    ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(environment.process()));  // owned by GoogleTest
  }
  const int result = RUN_ALL_TESTS();
  const bool failed = result != 0 || ::testing::UnitTest::GetInstance()->test_to_run_count() == 0;
  const bool all_passed = environment.agree_on_setup(
      failed ? std::optional<std::string>("tests failed") : std::nullopt);
  return all_passed ? 0 : 1;
}
