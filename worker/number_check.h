// Finds numbers that no training can use, in a slot's loss and gradient, before they are added to
// anything.
//
// NaN and infinity always; gradients beyond a limit and losses far above the usual when asked for.
// A finding depends on the slot alone (and on losses that all ranks know), so every number of ranks
// finds the same. What follows is decided in the sync of the superstep, the same on all ranks: the
// run stops (exit code 6), or the superstep is left out, with parameters and optimizer state as
// they were.
//
//   if (auto bad = numbers.look(slot, summary, gradient)) server.raise_flags(kBadNumbers);
//
// Cost: one pass over the gradient, integer comparisons.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "paramserver/layout.h"
#include "paramserver/server.h"
#include "worker/data/batches.h"

namespace superstep::worker {

struct NumberOptions {
  enum class OnBad : std::uint8_t {
    kStop,  // DataError with exit code kNumbers
    kSkip,  // leave the superstep out
  };
  OnBad on_bad = OnBad::kStop;
  std::int64_t max_skipped = 10;   // in a row; one more stops the run
  double gradient_limit = 0.0;     // of the absolute value of an element; 0: any finite number
  double loss_spike_factor = 0.0;  // of the running mean of the loss; 0: any finite number
};

class NumberCheck {
 public:
  // `layout` must outlive this object.
  NumberCheck(const paramserver::ParameterLayout& layout, NumberOptions options)
      : layout_(layout), options_(options) {}

  // What is wrong with a slot: its number, the first bad element and the samples.
  std::optional<std::string> look(const SlotBatch& batch, const paramserver::SlotSummary& summary,
                                  std::span<const float> gradient) const;

  // The outcome of a superstep, the same on every rank.
  void note_good(const paramserver::SlotSummary& total);
  // Throws DataError (kNumbers) when the run is to stop. `findings`: of all ranks, one text.
  void note_bad(std::int64_t superstep, const std::string& findings);

  const NumberOptions& options() const { return options_; }
  std::int64_t skipped() const { return skipped_; }

  // What a checkpoint must keep, so that a resumed run decides as an uninterrupted one.
  void save(std::map<std::string, double>& numbers) const;
  void restore(const std::map<std::string, double>& numbers);

 private:
  std::optional<std::string> look_at_loss(const paramserver::SlotSummary& summary) const;
  std::optional<std::string> look_at_gradient(std::span<const float> gradient) const;

  const paramserver::ParameterLayout& layout_;
  NumberOptions options_;
  double mean_loss_ = 0.0;        // exponentially weighted, of good supersteps
  std::int64_t good_ = 0;         // supersteps in mean_loss_
  std::int64_t skipped_ = 0;      // in all
  std::int64_t skipped_now_ = 0;  // in a row
};

}  // namespace superstep::worker
