// One superstep: input, gradients of this rank's slots, exchange and update, and what is told of
// it.

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "worker/trainer_state.h"

namespace superstep::worker {

namespace {

void add_to(paramserver::SlotSummary& sum, const paramserver::SlotSummary& part) {
  sum.num_samples += part.num_samples;
  sum.num_correct += part.num_correct;
  sum.loss_sum += part.loss_sum;
}

}  // namespace

std::vector<int> Trainer::State::slots_of_this_rank() const {
  std::vector<int> slots;
  const std::span<const int> placement = server.placement();
  for (std::size_t slot = 0; slot < placement.size(); ++slot) {
    if (placement[slot] == world.rank()) {
      slots.push_back(static_cast<int>(slot));
    }
  }
  return replicas == nullptr ? slots : replicas->slots_of_hosted();
}

void Trainer::State::place(std::vector<int> placement) {
  server.set_placement(placement);
  if (prefetcher != nullptr) {
    prefetcher->set_slots(slots_of_this_rank());
  }
}

void Trainer::State::place_at_random() {
  place(random_placement(options.batch.seed, position.superstep, options.batch.microbatches,
                         world.size()));
}

// Between two supersteps.
void Trainer::State::choose_placement(std::size_t num_slots, double compute_seconds) {
  if (options.placement == SlotPlacement::kRandom) {
    place_at_random();
  }
  if (options.placement == SlotPlacement::kMeasured) {
    meter.add(static_cast<std::int64_t>(num_slots), compute_seconds);
    if (meter.is_due()) {
      std::vector<int> better = meter.decide(world, server.placement());
      if (!better.empty()) {
        place(std::move(better));
      }
    }
  }
}

// After a superstep that some rank could not use: every rank learns why, and decides the same.
void Trainer::State::note_numbers(const StepReport& report) {
  constexpr std::size_t kMostRanksNamed = 4;
  std::string why;
  std::size_t named = 0;
  int rank = 0;
  for (const std::string& text : world.allgather_string(std::exchange(findings, {}))) {
    if (!text.empty() && named < kMostRanksNamed) {
      why += fmt::format("{}rank {}, {}", why.empty() ? "" : "; ", rank, text);
      ++named;
    }
    ++rank;
  }
  why = fmt::format("the loss or a gradient is no number at superstep {} (epoch {}): {}",
                    report.superstep, report.epoch + 1, why);
  numbers.note_bad(report.superstep, why);
  if (observer != nullptr) {
    observer->on_skipped(report, why);
  }
}

void Trainer::State::watch_stragglers(const StepReport& report, std::int64_t num_samples) {
  if (world.size() == 1) {
    return;
  }
  stragglers.note(report.record.compute_seconds + report.record.input_wait_seconds, num_samples);
  if (!stragglers.is_due()) {
    return;
  }
  const std::vector<double> medians = world.allgather(stragglers.my_median());
  for (const Straggler& straggler : stragglers.judge(medians)) {
    if (observer != nullptr) {
      observer->on_straggler(report.superstep, straggler, world.host_of(straggler.rank));
    }
  }
}

void Trainer::State::raise_stop_flags() {
  if (stop_requested()) {
    server.raise_flags(kSignalFlag);
  }
  if (options.wall_time_limit.count() > 0 && Clock::now() - started >= options.wall_time_limit) {
    server.raise_flags(kWallTimeFlag);
  }
}

// The first part of a superstep: input.
const StepBatch& Trainer::State::next_batch() {
  SUPERSTEP_CHECK(prefetcher != nullptr, "a step before open()");
  SUPERSTEP_FAILPOINT_HERE(world.rank(), position.superstep);
  SUPERSTEP_FAILPOINT("step.begin");
  in_work = {};
  in_work.traffic_before = world.traffic();
  const StepBatch& batch = prefetcher->next();
  SUPERSTEP_CHECK(batch.epoch == position.epoch && batch.step_in_epoch == position.step_in_epoch,
                  "input at epoch", batch.epoch, "step", batch.step_in_epoch, "but training at",
                  position.epoch, position.step_in_epoch);
  in_work.input_wait_seconds = prefetcher->input_wait_seconds() - last_input_wait;
  last_input_wait += in_work.input_wait_seconds;
  plan_superstep();
  return batch;
}

// The second: gradients of this rank's slots.
void Trainer::State::compute_gradients(const StepBatch& batch) {
  const Stopwatch watch;
  recheck.begin(position.superstep + 1);
  in_work.num_samples = compute_slots(batch);
  in_work.num_slots = batch.slots.size();
  in_work.compute_seconds += watch.seconds();
  SUPERSTEP_FAILPOINT("compute.end");
}

// The last: exchange and update, and a step further.
StepReport Trainer::State::apply_gradients(paramserver::ApplyOptions apply) {
  SUPERSTEP_CHECK(steps_per_epoch > 0, "a step before open()");
  if (recheck.is_drawn()) {
    const Stopwatch watch;
    recheck.compare();
    in_work.check_seconds = watch.seconds();
  }
  apply.skip_on |= kBadNumbersFlag;
  raise_stop_flags();
  if (writer.is_busy()) {
    server.raise_flags(kWritingFlag);
  }
  StepReport report{.superstep = position.superstep + 1,
                    .epoch = position.epoch,
                    .step_in_epoch = position.step_in_epoch,
                    .steps_per_epoch = steps_per_epoch,
                    .result = exchange(apply),
                    .record = {},
                    .plan = policy != nullptr ? &plan : nullptr};
  if (!report.result.skipped) {
    add_to(totals.sums, report.result.total);
    numbers.note_good(report.result.total);
  }
  SUPERSTEP_FAILPOINT("update.end");
  ++position.superstep;
  ++position.step_in_epoch;
  choose_placement(in_work.num_slots, in_work.compute_seconds);
  report.record = record_of_step();
  unrecorded_seconds = 0.0;
  totals.seconds += report.record.total_seconds;
  return report;
}

bsp::SuperstepRecord Trainer::State::record_of_step() const {
  const bsp::TrafficCounters traffic = world.traffic();
  return {.superstep = static_cast<std::uint64_t>(position.superstep),
          .total_seconds = in_work.watch.seconds(),
          .compute_seconds = in_work.compute_seconds,
          .input_wait_seconds = in_work.input_wait_seconds,
          .exchange_seconds = server.last_times().exchange_seconds,
          .sync_wait_seconds = server.last_times().sync_seconds,
          .check_seconds = in_work.check_seconds,
          .checkpoint_seconds = unrecorded_seconds,
          .bytes_sent = traffic.bytes_sent - in_work.traffic_before.bytes_sent,
          .bytes_received = traffic.bytes_received - in_work.traffic_before.bytes_received};
}

void Trainer::State::tell(const StepReport& report) {
  if (report.result.skipped) {
    note_numbers(report);
  } else if (observer != nullptr) {
    observer->on_step(report);
  }
  watch_stragglers(report, in_work.num_samples);
}

}  // namespace superstep::worker
