#include "cluster/progress.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "base/text.h"
#include "cluster/standard_streams.h"

namespace superstep::cluster {

namespace {

std::string time_left(double seconds) {
  if (seconds < 0.0) {
    return {};
  }
  // Whole seconds: tenths of an estimate are noise.
  return fmt::format("  {} left", format_duration(std::chrono::seconds(std::llround(seconds))));
}

std::string figures(const ProgressState& state) {
  return fmt::format("loss {:.4f}  {} samples/s{}", state.loss,
                     human_count(std::llround(state.samples_per_second)),
                     time_left(state.seconds_left));
}

std::string meter(double fraction, int width) {
  const int filled = static_cast<int>(std::lround(std::clamp(fraction, 0.0, 1.0) * width));
  std::string bar(static_cast<std::size_t>(width), ' ');
  std::fill_n(bar.begin(), filled, '=');
  if (filled > 0 && filled < width) {
    bar[static_cast<std::size_t>(filled) - 1] = '>';
  }
  return bar;
}

}  // namespace

std::string progress_bar(const ProgressState& state, int width) {
  constexpr int kMeterWidth = 20;
  const std::string head = fmt::format("epoch {}/{}", state.epoch, state.epochs);
  const std::string tail =
      fmt::format(" {}/{}  {}", state.superstep, state.total_supersteps, figures(state));
  const double fraction =
      state.total_supersteps > 0
          ? static_cast<double>(state.superstep) / static_cast<double>(state.total_supersteps)
          : 0.0;
  const int space = width - static_cast<int>(head.size() + tail.size()) - 3;
  std::string text = head;
  if (space >= 5) {
    text += fmt::format(" [{}]", meter(fraction, std::min(space, kMeterWidth)));
  }
  text += tail;
  return text.substr(0, static_cast<std::size_t>(std::max(width, 0)));
}

std::string progress_line(const ProgressState& state) {
  return fmt::format("epoch {}/{}  superstep {}/{}  {}", state.epoch, state.epochs, state.superstep,
                     state.total_supersteps, figures(state));
}

std::string epoch_line(const worker::EpochReport& report, std::int64_t epochs) {
  std::string text =
      fmt::format("epoch {}/{} done  superstep {}  train loss {:.4f} accuracy {:.4f}", report.epoch,
                  epochs, report.superstep, report.train_loss, report.train_accuracy);
  if (report.validation) {
    text += fmt::format("  validation loss {:.4f} accuracy {:.4f}", report.validation->loss,
                        report.validation->accuracy);
  }
  if (report.test) {
    text +=
        fmt::format("  test loss {:.4f} accuracy {:.4f}", report.test->loss, report.test->accuracy);
  }
  return text + fmt::format("  {} samples/s", human_count(std::llround(report.samples_per_second)));
}

ProgressStyle progress_style(bool under_mpirun) {
  if (!under_mpirun) {
    return ::isatty(STDERR_FILENO) == 1 ? ProgressStyle::kBar : ProgressStyle::kLines;
  }
  std::error_code error;
  const std::filesystem::path target = std::filesystem::read_symlink(
      fmt::format("/proc/{}/fd/{}", ::getppid(), STDERR_FILENO), error);
  const bool terminal = !error && (target.string().rfind("/dev/pts/", 0) == 0 ||
                                   target.string().rfind("/dev/tty", 0) == 0);
  return terminal ? ProgressStyle::kBar : ProgressStyle::kLines;
}

Progress::Progress(const ProgressOptions& options, std::FILE* lines, std::FILE* bar)
    : options_(options), lines_(lines), bar_(bar) {}

ProgressState Progress::state_at(const worker::StepReport& report, Clock::time_point now) {
  const double elapsed = to_seconds(now - first_step_);
  const std::int64_t steps = report.superstep - first_superstep_;
  const double step_seconds = steps > 0 ? elapsed / static_cast<double>(steps) : 0.0;
  const double window = to_seconds(now - last_print_);
  const std::int64_t left = options_.total_supersteps - report.superstep;
  return {.epoch = report.epoch + 1,
          .epochs = options_.epochs,
          .superstep = report.superstep,
          .total_supersteps = options_.total_supersteps,
          .loss = loss_sum_ / static_cast<double>(std::max<std::int64_t>(num_samples_, 1)),
          .samples_per_second = window > 0.0 ? static_cast<double>(num_samples_) / window : 0.0,
          .seconds_left = steps > 0 ? step_seconds * static_cast<double>(left) : -1.0};
}

void Progress::on_step(const worker::StepReport& report, Clock::time_point now) {
  loss_sum_ += report.result.total.loss_sum;
  num_samples_ += report.result.total.num_samples;
  if (first_superstep_ < 0) {
    first_superstep_ = report.superstep;
    first_step_ = now;
    last_print_ = now;
    loss_sum_ = 0.0;  // its samples fall before the window that rates are taken over
    num_samples_ = 0;
    return;
  }
  const bool bar = options_.style == ProgressStyle::kBar;
  if (now - last_print_ < (bar ? options_.bar_interval : options_.line_interval)) {
    return;
  }
  const ProgressState state = state_at(report, now);
  if (bar) {
    draw(progress_bar(state, options_.width - 1));
    bar_is_shown_ = true;
  } else {
    say(progress_line(state));
  }
  last_print_ = now;
  loss_sum_ = 0.0;
  num_samples_ = 0;
}

void Progress::on_epoch(const worker::EpochReport& report) {
  say(epoch_line(report, options_.epochs));
}

void Progress::say(const std::string& line) {
  clear_bar();
  write_line(lines_, line);
}

void Progress::draw(const std::string& bar) {
  const std::string text = "\r\x1b[K" + bar;
  static_cast<void>(std::fwrite(text.data(), 1, text.size(), bar_));
  static_cast<void>(std::fflush(bar_));
}

void Progress::clear_bar() {
  if (bar_is_shown_) {
    draw("");
    bar_is_shown_ = false;
  }
}

}  // namespace superstep::cluster
