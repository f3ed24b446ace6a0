#include "tests/support/spmd_fixture.h"

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest-spi.h>

#include "base/env.h"
#include "base/error.h"
#include "bsp/failure.h"
#include "tests/support/spmd_environment.h"

namespace superstep::testing {

namespace {

using ::testing::TestPartResult;

// What leaves the body of a rank whose fatal assertion failed: releases or ends the other ranks.
class FatalAssertion : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Recorded {
  int rank;
  TestPartResult result;
};

// The failures of all lanes of this process, recorded where they happen and given to GoogleTest by
// the main thread.
class Recorder {
 public:
  void add(int rank, const ::testing::TestPartResultArray& results) {
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < results.size(); ++i) {
      recorded_.push_back({rank, results.GetTestPartResult(i)});
    }
  }
  void replay(int num_ranks) const {
    for (const Recorded& recorded : recorded_) {
      const TestPartResult& result = recorded.result;
      ::testing::internal::AssertHelper(
          result.type(), result.file_name() == nullptr ? "unknown file" : result.file_name(),
          result.line_number(), "") = ::testing::Message() << "[rank " << recorded.rank << " of "
                                                           << num_ranks << "] " << result.message();
    }
  }

 private:
  std::mutex mutex_;
  std::vector<Recorded> recorded_;
};

std::string first_fatal(const ::testing::TestPartResultArray& results) {
  for (int i = 0; i < results.size(); ++i) {
    const TestPartResult& result = results.GetTestPartResult(i);
    if (result.fatally_failed()) {
      return fmt::format("fatal failure at {}:{}\n{}",
                         result.file_name() == nullptr ? "?" : result.file_name(),
                         result.line_number(), result.message());
    }
  }
  return {};
}

bool any_failed(const ::testing::TestPartResultArray& results) {
  for (int i = 0; i < results.size(); ++i) {
    if (results.GetTestPartResult(i).failed()) {
      return true;
    }
  }
  return false;
}

// After the body: every rank learns which ranks failed, so that all report the same verdict.
void agree_on_verdict(bsp::World& world, const ::testing::TestPartResultArray& results,
                      std::atomic<bool>& others_failed) {
  const auto verdict =
      world.allreduce<std::uint8_t>(any_failed(results) ? 1 : 0, bsp::ReduceOp::kMax);
  if (verdict != 0) {
    others_failed.store(true);
  }
}

// Runs the body with this thread's assertions recorded; throws when a fatal one failed.
void run_body(bsp::World& world, WorldBody body, Recorder& recorder,
              std::atomic<bool>& others_failed) {
  ::testing::TestPartResultArray results;
  const ::testing::ScopedFakeTestPartResultReporter reporter(
      ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
  const auto expected = environment_integer("SUPERSTEP_TEST_RANKS");
  EXPECT_EQ(expected.value_or(-1), world.size()) << "SUPERSTEP_TEST_RANKS against the world's size";
  try {
    body(world);
    if (first_fatal(results).empty()) {
      agree_on_verdict(world, results, others_failed);
    }
  } catch (const bsp::internal::PeerFailure&) {
    others_failed.store(true);
    recorder.add(world.rank(), results);
    throw;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "exception: " << error.what();
    recorder.add(world.rank(), results);
    throw;
  }
  recorder.add(world.rank(), results);
  const std::string fatal = first_fatal(results);
  if (!fatal.empty()) {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    throw FatalAssertion(fmt::format("{}.{}: {}", test->test_suite_name(), test->name(), fatal));
  }
}

bsp::Environment* environment = nullptr;

}  // namespace

bsp::Environment& spmd_environment() {
  return *environment;
}
void set_spmd_environment(bsp::Environment* made) {
  environment = made;
}

bsp::EnvironmentOptions test_options() {
  bsp::EnvironmentOptions options;
  options.lanes = static_cast<int>(environment_integer("SUPERSTEP_TEST_LANES").value_or(1));
  options.sync_deadline = kTestDeadline;
  return options;
}

void run_on_every_rank(WorldBody body, const bsp::EnvironmentOptions& options) {
  Recorder recorder;
  std::atomic<bool> others_failed{false};
  const int code = spmd_environment().run(
      options, [&](bsp::World& world) { run_body(world, body, recorder, others_failed); });
  recorder.replay(spmd_environment().num_processes() * options.lanes);
  EXPECT_EQ(code, 0) << "exit code of the SPMD section";
  EXPECT_FALSE(others_failed.load()) << "the test failed on some rank";
}

void run_on_every_node_layout(WorldBody body) {
  bsp::EnvironmentOptions options = test_options();
  {
    SCOPED_TRACE("nodes as they are");
    run_on_every_rank(body, options);
  }
  options.ranks_per_node = 1;
  options.checks = bsp::CollectiveChecks::kEveryCall;
  SCOPED_TRACE("every rank a node of its own, every call checked");
  run_on_every_rank(body, options);
}

::testing::AssertionResult holds_on_all_ranks(bsp::World& world, bool mine) {
  const std::vector<bool>::size_type size = static_cast<std::size_t>(world.size());
  const std::vector<std::uint8_t> all = world.allgather<std::uint8_t>(mine ? 1 : 0);
  std::string failing;
  for (std::size_t rank = 0; rank < size; ++rank) {
    if (all[rank] == 0) {
      failing += (failing.empty() ? "" : ", ") + std::to_string(rank);
    }
  }
  if (failing.empty()) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << fmt::format("false on ranks {{{}}} of {}", failing, size);
}

}  // namespace superstep::testing
