// What is shown while a training runs.
#include "cluster/progress.h"

#include <cstdio>
#include <memory>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace superstep::cluster {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;
using namespace std::chrono_literals;

constexpr ProgressState kState{.epoch = 2,
                               .epochs = 6,
                               .superstep = 612,
                               .total_supersteps = 2814,
                               .loss = 0.31274,
                               .samples_per_second = 8432,
                               .seconds_left = 245.4};

TEST(ProgressBar, ShowsEpochStepLossSpeedAndTimeLeft) {
  EXPECT_EQ(
      progress_bar(kState, 100),
      "epoch 2/6 [===>                ] 612/2814  loss 0.3127  8.43 k samples/s  4 min 05 s left");
}

TEST(ProgressBar, NeverExceedsTheWidth) {
  for (int width = 0; width < 120; ++width) {
    EXPECT_LE(progress_bar(kState, width).size(), static_cast<std::size_t>(width));
  }
  EXPECT_THAT(progress_bar(kState, 60), Not(HasSubstr("[")));  // no room for the meter
}

TEST(ProgressBar, IsEmptyAtTheStartAndFullAtTheEnd) {
  ProgressState state = kState;
  state.superstep = 0;
  EXPECT_THAT(progress_bar(state, 100), HasSubstr("[                    ]"));
  state.superstep = state.total_supersteps;
  EXPECT_THAT(progress_bar(state, 100), HasSubstr("[====================]"));
}

TEST(ProgressBar, LeavesOutATimeItDoesNotKnow) {
  ProgressState state = kState;
  state.seconds_left = -1;
  EXPECT_THAT(progress_bar(state, 100), EndsWith("samples/s"));
}

TEST(EpochLine, ShowsWhatWasEvaluated) {
  worker::EpochReport report{.epoch = 3,
                             .superstep = 1407,
                             .train_loss = 0.25,
                             .train_accuracy = 0.9,
                             .seconds = 2,
                             .samples_per_second = 30000,
                             .validation = {},
                             .test = {}};
  EXPECT_EQ(epoch_line(report, 6),
            "epoch 3/6 done  superstep 1407  train loss 0.2500 accuracy 0.9000  30.0 k samples/s");
  report.test = worker::Evaluation{.loss = 0.3, .accuracy = 0.875, .num_samples = 10};
  EXPECT_THAT(epoch_line(report, 6), HasSubstr("test loss 0.3000 accuracy 0.8750"));
  report.validation = worker::Evaluation{.loss = 0.4, .accuracy = 0.5, .num_samples = 10};
  EXPECT_THAT(epoch_line(report, 6), HasSubstr("validation loss 0.4000 accuracy 0.5000"));
}

// Both streams of a Progress, read back.
class ProgressTest : public ::testing::Test {
 protected:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  using Stream = std::unique_ptr<std::FILE, Close>;

  static std::string content(const Stream& stream) {
    std::rewind(stream.get());
    std::string text(4096, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), stream.get()));
    return text;
  }

  void steps(Progress& progress, int count, std::chrono::milliseconds each) {
    for (int i = 0; i < count; ++i) {
      worker::StepReport report;
      report.superstep = ++superstep_;
      report.result.total = {.num_samples = 100, .num_correct = 50, .loss_sum = 50.0};
      now_ += each;
      progress.on_step(report, now_);
    }
  }

  Stream lines_{std::tmpfile()};
  Stream bar_{std::tmpfile()};
  Clock::time_point now_;
  std::int64_t superstep_ = 0;
};

TEST_F(ProgressTest, PrintsALineEverySomeSeconds) {
  Progress progress({.style = ProgressStyle::kLines, .epochs = 1, .total_supersteps = 21},
                    lines_.get(), bar_.get());
  steps(progress, 5, 1s);
  EXPECT_THAT(content(lines_), IsEmpty());
  steps(progress, 1, 1s);
  // 5 steps of 100 samples in 5 seconds after the first one; 15 steps are left.
  EXPECT_EQ(content(lines_),
            "epoch 1/1  superstep 6/21  loss 0.5000  100 samples/s  15.0 s left\n");
  EXPECT_THAT(content(bar_), IsEmpty());
}

TEST_F(ProgressTest, RewritesABarAndClearsItBeforeALine) {
  Progress progress(
      {.style = ProgressStyle::kBar, .epochs = 1, .total_supersteps = 20, .width = 100},
      lines_.get(), bar_.get());
  steps(progress, 2, 1s);
  EXPECT_THAT(content(bar_), StartsWith("\r\x1b[Kepoch 1/1 ["));
  EXPECT_THAT(content(lines_), IsEmpty());
  progress.say("hello");
  EXPECT_EQ(content(lines_), "hello\n");
  EXPECT_THAT(content(bar_), EndsWith("\r\x1b[K"));
}

TEST_F(ProgressTest, CountsARateOverTheResumedPartOnly) {
  Progress progress({.style = ProgressStyle::kLines, .epochs = 1, .total_supersteps = 1010},
                    lines_.get(), bar_.get());
  superstep_ = 999;
  steps(progress, 6, 1s);
  EXPECT_THAT(content(lines_),
              HasSubstr("superstep 1005/1010  loss 0.5000  100 samples/s  5.00 s left"));
}

}  // namespace
}  // namespace superstep::cluster
