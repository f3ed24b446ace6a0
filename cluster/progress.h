// What a person sees of a running training: one line that is rewritten on a terminal, else plain
// lines.
//
//   epoch 2/6 [=======>            ] 612/2814  loss 0.3127  8.43 k samples/s  4 min 05 s left
//
// Text is made by pure functions; Progress decides when to print. Only the root rank has one. What
// cannot be written is left out: a training does not end for want of a reader.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "base/clock.h"
#include "worker/trainer.h"

namespace superstep::cluster {

struct ProgressState {
  std::int64_t epoch = 1;  // the one in work, from 1
  std::int64_t epochs = 1;
  std::int64_t superstep = 0;  // done since the run began
  std::int64_t total_supersteps = 0;
  double loss = 0.0;  // mean since the last print
  double samples_per_second = 0.0;
  double seconds_left = 0.0;  // negative: unknown yet
};

// At most `width` columns.
std::string progress_bar(const ProgressState& state, int width);
std::string progress_line(const ProgressState& state);
std::string epoch_line(const worker::EpochReport& report, std::int64_t epochs);

enum class ProgressStyle : std::uint8_t { kBar, kLines };

// A bar when a terminal will show it. Under mpirun the ranks' own streams are pipes, so the
// launcher's standard error decides.
ProgressStyle progress_style(bool under_mpirun);

struct ProgressOptions {
  ProgressStyle style = ProgressStyle::kLines;
  std::int64_t epochs = 1;
  std::int64_t total_supersteps = 0;
  int width = 80;
  std::chrono::milliseconds bar_interval{100};
  std::chrono::milliseconds line_interval{5000};
};

class Progress {
 public:
  // Lines go to `lines`, the bar to `bar`; both must remain open while this object lives.
  Progress(const ProgressOptions& options, std::FILE* lines, std::FILE* bar);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear_bar(); }

  void on_step(const worker::StepReport& report, Clock::time_point now = Clock::now());
  void on_epoch(const worker::EpochReport& report);
  // A line of its own, whatever the style.
  void say(const std::string& line);

 private:
  void draw(const std::string& bar);  // in the place of the bar before
  void clear_bar();
  ProgressState state_at(const worker::StepReport& report, Clock::time_point now);

  ProgressOptions options_;
  std::FILE* lines_;
  std::FILE* bar_;
  bool bar_is_shown_ = false;
  Clock::time_point last_print_;
  Clock::time_point first_step_;  // end of the first step seen: rates leave start-up out
  std::int64_t first_superstep_ = -1;
  double loss_sum_ = 0.0;  // since the last print
  std::int64_t num_samples_ = 0;
};

}  // namespace superstep::cluster
