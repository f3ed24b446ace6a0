#include "paramserver/shard_updater.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/as_size.h"
#include "base/check.h"
#include "paramserver/clip.h"

namespace superstep::paramserver {

namespace {

constexpr std::size_t kMostStates = 4;

// mean = sums / divisor, with the bits of a division: the reciprocal of a power of two is exact, so
// a multiplication rounds the same real number, in a fraction of the time.
void divide(const float* __restrict sums, float divisor, float* __restrict mean,
            std::int64_t count) {
  int exponent = 0;
  if (std::frexp(divisor, &exponent) == 0.5F) {
    const float reciprocal = 1.0F / divisor;
    for (std::int64_t i = 0; i < count; ++i) {
      mean[i] = sums[i] * reciprocal;
    }
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) {
    mean[i] = sums[i] / divisor;
  }
}

void fold_statistic(float fold, std::span<const float> mean, std::span<float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = (1.0F - fold) * values[i] + fold * mean[i];
  }
}

}  // namespace

ShardUpdater::ShardUpdater(const ParameterLayout& layout, ElementRange shard,
                           OptimizerSpec optimizer)
    : shard_(shard), optimizer_(std::move(optimizer)), state_names_(state_arrays(optimizer_)) {
  SUPERSTEP_CHECK(state_names_.size() <= kMostStates, "optimizer state arrays",
                  state_names_.size());
  int index = 0;
  for (const LayoutEntry& entry : layout.entries()) {
    const std::int64_t begin = std::max(entry.offset, shard.begin);
    const std::int64_t end = std::min(entry.offset + entry.num_elements(), shard.end);
    if (begin < end) {
      segments_.push_back({.begin = begin,
                           .end = end,
                           .entry = index,
                           .role = entry.role,
                           .decayed = entry.decayed,
                           .fold = entry.fold});
    }
    ++index;
  }
  for (std::size_t i = 0; i < state_names_.size(); ++i) {
    states_.emplace_back(shard.length());
  }
  reset_state();
}

void ShardUpdater::reset_state() {
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const std::span<float> state = states_[i].span();
    std::fill(state.begin(), state.end(), static_cast<float>(state_names_[i].initial_value));
  }
}

template <typename Body>
void ShardUpdater::for_segments(std::int64_t begin, std::int64_t count, const Body& body) const {
  const std::int64_t end = begin + count;
  auto segment =
      std::partition_point(segments_.begin(), segments_.end(),
                           [begin](const Segment& candidate) { return candidate.end <= begin; });
  for (; segment != segments_.end() && segment->begin < end; ++segment) {
    body(*segment, std::max(segment->begin, begin), std::min(segment->end, end));
  }
}

bool ShardUpdater::is_masked(const ShardStep& step, const Segment& segment) {
  return !step.options->mask.empty() &&
         !step.options->mask[static_cast<std::size_t>(segment.entry)];
}

void ShardUpdater::mean_of_tile(const ShardStep& step, std::int64_t begin,
                                std::span<const float> sums, std::span<float> mean) const {
  const auto divisor = static_cast<float>(step.num_samples);
  std::int64_t done = 0;  // of the tile
  const auto zero_until = [&](std::int64_t end) {
    std::fill(mean.begin() + done, mean.begin() + end, 0.0F);
  };
  for_segments(begin, static_cast<std::int64_t>(sums.size()),
               [&](const Segment& segment, std::int64_t first, std::int64_t last) {
                 if (is_masked(step, segment)) {
                   return;
                 }
                 zero_until(first - begin);
                 done = last - begin;
                 divide(sums.data() + (first - begin), divisor, mean.data() + (first - begin),
                        last - first);
                 if (step.clip_value > 0.0 && segment.role == EntryRole::kTrainable) {
                   clip_by_value<float>(mean.subspan(as_size(first - begin), as_size(last - first)),
                                        step.clip_value);
                 }
               });
  zero_until(static_cast<std::int64_t>(mean.size()));
}

void ShardUpdater::keep_only_gradient(std::int64_t begin, std::span<float> mean) const {
  for_segments(begin, static_cast<std::int64_t>(mean.size()),
               [&](const Segment& segment, std::int64_t first, std::int64_t last) {
                 if (segment.role == EntryRole::kStatistic) {
                   std::fill(mean.begin() + (first - begin), mean.begin() + (last - begin), 0.0F);
                 }
               });
}

void ShardUpdater::scale_gradient(std::int64_t begin, double factor, std::span<float> mean) const {
  for_segments(begin, static_cast<std::int64_t>(mean.size()),
               [&](const Segment& segment, std::int64_t first, std::int64_t last) {
                 if (segment.role == EntryRole::kTrainable) {
                   scale<float>(mean.subspan(as_size(first - begin), as_size(last - first)),
                                factor);
                 }
               });
}

void ShardUpdater::update_tile(const ShardStep& step, std::int64_t begin,
                               std::span<const float> mean, std::span<float> parameters) {
  for_segments(
      begin, static_cast<std::int64_t>(mean.size()),
      [&](const Segment& segment, std::int64_t first, std::int64_t last) {
        const bool masked = is_masked(step, segment);
        if (masked &&
            (step.options->masked == MaskedState::kKeep || segment.role == EntryRole::kStatistic)) {
          return;
        }
        const std::size_t count = as_size(last - first);
        const std::span<const float> gradient = mean.subspan(as_size(first - begin), count);
        const std::span<float> values = parameters.subspan(as_size(first - begin), count);
        if (segment.role == EntryRole::kStatistic) {
          const bool folds = step.options->statistics == StatisticRule::kFold;
          fold_statistic(folds ? segment.fold : 1.0F, gradient, values);
          return;
        }
        std::array<std::span<float>, kMostStates> states;
        for (std::size_t i = 0; i < states_.size(); ++i) {
          states[i] = states_[i].span().subspan(as_size(first - shard_.begin), count);
        }
        const UpdateStep update_step{
            .step = step.step, .learning_rate = step.learning_rate, .decayed = segment.decayed};
        update<float>(optimizer_, update_step, gradient, values,
                      std::span<const std::span<float>>(states.data(), states_.size()));
      });
}

}  // namespace superstep::paramserver
