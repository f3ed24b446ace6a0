#include "worker/straggler_watch.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

#include <fmt/format.h>

namespace superstep::worker {

namespace {

// The lower one of two middle values: with two ranks the faster one is the measure.
double lower_median(std::vector<double> values) {
  if (values.empty()) {
    return 0.0;
  }
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

std::string Straggler::to_text() const {
  return fmt::format("rank {} is slow: it takes {:.1f} times as long per sample as the middle rank",
                     rank, slowdown);
}

void StragglerWatch::note(double seconds, std::int64_t num_samples) {
  times_.push_back(num_samples > 0 ? seconds / static_cast<double>(num_samples) : 0.0);
}

double StragglerWatch::my_median() {
  std::vector<double> times;
  std::copy_if(times_.begin(), times_.end(), std::back_inserter(times),
               [](double time) { return time > 0.0; });
  times_.clear();
  return lower_median(std::move(times));
}

std::vector<Straggler> StragglerWatch::judge(std::span<const double> medians) {
  slow_windows_.resize(medians.size());
  std::vector<double> judged;
  std::copy_if(medians.begin(), medians.end(), std::back_inserter(judged),
               [](double median) { return median > 0.0; });
  const double middle = lower_median(std::move(judged));
  std::vector<Straggler> named;
  for (std::size_t rank = 0; rank < medians.size(); ++rank) {
    int& windows = slow_windows_[rank];
    windows = middle > 0.0 && medians[rank] > kFactor * middle ? windows + 1 : 0;
    if (windows == kConfirmations) {
      named.push_back({.rank = static_cast<int>(rank), .slowdown = medians[rank] / middle});
    }
  }
  return named;
}

}  // namespace superstep::worker
