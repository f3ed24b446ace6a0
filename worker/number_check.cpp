#include "worker/number_check.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "base/error.h"
#include "base/prefetch.h"

namespace superstep::worker {

namespace {

constexpr std::uint32_t kSignless = 0x7fffffffU;
constexpr std::uint32_t kLargestFinite = 0x7f7fffffU;
constexpr std::int64_t kMostSamplesNamed = 8;
// The mean of the loss looks back about ten supersteps, and is of use after as many.
constexpr double kWeightOfNew = 0.1;
constexpr std::int64_t kGoodBeforeSpikes = 10;

// Without its sign a float orders like its bits; infinity and NaN are above all numbers.
std::uint32_t magnitude(float value) {
  return std::bit_cast<std::uint32_t>(value) & kSignless;
}

// Page by page: the processor by itself does not fetch ahead beyond one.
std::uint32_t largest_magnitude(std::span<const float> values) {
  constexpr std::size_t kPage = 4096 / sizeof(float);
  std::uint32_t largest = 0;
  for (std::size_t begin = 0; begin < values.size(); begin += kPage) {
    const std::size_t end = std::min(begin + kPage, values.size());
    prefetch(values.data() + end, static_cast<std::int64_t>(std::min(kPage, values.size() - end)));
    for (std::size_t i = begin; i < end; ++i) {
      largest = std::max(largest, magnitude(values[i]));
    }
  }
  return largest;
}

std::string samples_of(const SlotBatch& batch) {
  const std::span<const std::int64_t> ids = batch.sample_ids.data<std::int64_t>();
  const std::size_t count = std::min<std::size_t>(ids.size(), kMostSamplesNamed);
  return fmt::format("{}{}", fmt::join(ids.first(count), ", "), count < ids.size() ? ", ..." : "");
}

double number(const std::map<std::string, double>& numbers, const std::string& name) {
  const auto found = numbers.find(name);
  return found == numbers.end() ? 0.0 : found->second;
}

}  // namespace

std::optional<std::string> NumberCheck::look(const SlotBatch& batch,
                                             const paramserver::SlotSummary& summary,
                                             std::span<const float> gradient) const {
  if (summary.num_samples == 0) {
    return std::nullopt;
  }
  std::optional<std::string> found = look_at_loss(summary);
  if (!found) {
    found = look_at_gradient(gradient);
  }
  if (found) {
    found = fmt::format("slot {}: {} (samples {})", batch.slot, *found, samples_of(batch));
  }
  return found;
}

std::optional<std::string> NumberCheck::look_at_loss(
    const paramserver::SlotSummary& summary) const {
  const double loss = summary.loss_sum / static_cast<double>(summary.num_samples);
  if (!std::isfinite(loss)) {
    return fmt::format("loss {}", loss);
  }
  const bool spikes = options_.loss_spike_factor > 0.0 && good_ >= kGoodBeforeSpikes;
  if (spikes && loss > options_.loss_spike_factor * mean_loss_) {
    return fmt::format("loss {} is more than {} times the mean of {}", loss,
                       options_.loss_spike_factor, mean_loss_);
  }
  return std::nullopt;
}

std::optional<std::string> NumberCheck::look_at_gradient(std::span<const float> gradient) const {
  const std::uint32_t limit =
      options_.gradient_limit > 0.0
          ? std::min(magnitude(static_cast<float>(options_.gradient_limit)), kLargestFinite)
          : kLargestFinite;
  if (largest_magnitude(gradient) <= limit) {
    return std::nullopt;
  }
  for (const paramserver::LayoutEntry& entry : layout_.entries()) {
    const std::span<const float> values = gradient.subspan(
        static_cast<std::size_t>(entry.offset), static_cast<std::size_t>(entry.num_elements()));
    const auto bad = std::find_if(values.begin(), values.end(),
                                  [&](float value) { return magnitude(value) > limit; });
    if (bad != values.end()) {
      return fmt::format("gradient of {}[{}] is {}", entry.name, bad - values.begin(), *bad);
    }
  }
  return std::nullopt;  // padding
}

void NumberCheck::note_good(const paramserver::SlotSummary& total) {
  const double loss = total.loss_sum / static_cast<double>(total.num_samples);
  mean_loss_ = good_ == 0 ? loss : mean_loss_ + kWeightOfNew * (loss - mean_loss_);
  ++good_;
  skipped_now_ = 0;
}

void NumberCheck::note_bad(std::int64_t superstep, const std::string& findings) {
  ++skipped_;
  ++skipped_now_;
  const bool too_often = skipped_now_ > options_.max_skipped;
  if (options_.on_bad == NumberOptions::OnBad::kStop || too_often) {
    throw DataError(
        "Trainer", fmt::format("superstep {}", superstep), -1,
        fmt::format("{}{}. Parameters are as before this superstep; checkpoints are untouched. A "
                    "lower learning rate, warm-up or clipping may help",
                    findings,
                    too_often && options_.on_bad == NumberOptions::OnBad::kSkip
                        ? fmt::format("; {} supersteps in a row could not be used", skipped_now_)
                        : ""),
        ExitCode::kNumbers);
  }
}

void NumberCheck::save(std::map<std::string, double>& numbers) const {
  numbers["numbers.mean_loss"] = mean_loss_;
  numbers["numbers.good"] = static_cast<double>(good_);
  numbers["numbers.skipped"] = static_cast<double>(skipped_);
  numbers["numbers.skipped_now"] = static_cast<double>(skipped_now_);
}

void NumberCheck::restore(const std::map<std::string, double>& numbers) {
  mean_loss_ = number(numbers, "numbers.mean_loss");
  good_ = static_cast<std::int64_t>(number(numbers, "numbers.good"));
  skipped_ = static_cast<std::int64_t>(number(numbers, "numbers.skipped"));
  skipped_now_ = static_cast<std::int64_t>(number(numbers, "numbers.skipped_now"));
}

}  // namespace superstep::worker
