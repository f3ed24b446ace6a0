#include "base/log.h"

#include <memory>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include "base/error.h"

namespace superstep {
namespace {

TEST(Logger, PrefixesEveryLineWithTimeLevelAndRank) {
  std::ostringstream out;
  const Logger log =
      make_logger(3, spdlog::level::info, std::make_shared<spdlog::sinks::ostream_sink_st>(out));
  log->info("epoch {} done", 2);
  EXPECT_THAT(out.str(),
              ::testing::MatchesRegex("[0-9][0-9]:[0-9][0-9]:[0-9][0-9]\\.[0-9][0-9][0-9] info "
                                      "\\[rank 3\\] epoch 2 done\n"));
}

TEST(Logger, DropsLinesBelowItsLevel) {
  std::ostringstream out;
  const Logger log =
      make_logger(0, spdlog::level::warn, std::make_shared<spdlog::sinks::ostream_sink_st>(out));
  log->info("quiet");
  EXPECT_EQ(out.str(), "");
  log->warn("loud");
  EXPECT_THAT(out.str(), ::testing::EndsWith("warning [rank 0] loud\n"));
}

TEST(Logger, TwoOfTheSameRankAreIndependent) {
  const Logger one = make_logger(1, "debug");
  const Logger other = make_logger(1, "error");
  EXPECT_EQ(one->level(), spdlog::level::debug);
  EXPECT_EQ(other->level(), spdlog::level::err);
}

TEST(LogLevel, UnknownNameGetsTheNearestOne) {
  EXPECT_EQ(parse_log_level("trace"), spdlog::level::trace);
  EXPECT_EQ(parse_log_level("off"), spdlog::level::off);
  try {
    parse_log_level("eror");
    FAIL() << "accepted";
  } catch (const InvalidArgument& error) {
    EXPECT_STREQ(error.what(),
                 "[parse_log_level] unknown log level: got \"eror\", expected one of trace, debug, "
                 "info, warn, error, off; did you mean \"error\"?");
  }
}

}  // namespace
}  // namespace superstep
