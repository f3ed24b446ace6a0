// The gradients of this rank's slots: several in one pass where the bits allow it, one after the
// other elsewhere.

#include <algorithm>

#include "base/as_size.h"
#include "base/failpoint.h"
#include "bsp/slot_tree.h"
#include "worker/trainer_state.h"

namespace superstep::worker {

namespace {

std::vector<bsp::SlotRange> subtrees_of(std::span<const SlotBatch> batches, int num_slots) {
  std::vector<int> slots;
  for (const SlotBatch& batch : batches) {
    slots.push_back(batch.slot);
  }
  return bsp::maximal_subtrees(num_slots, slots);
}

}  // namespace

// Returns the number of samples this rank computed.
std::int64_t Trainer::State::compute_slots(const StepBatch& batch) {
  if (replicas != nullptr) {
    return compute_local(batch);
  }
  return server.dealing() == paramserver::SlotDealing::kAsPlaced ? compute_own_slots(batch)
                                                                 : compute_claimed_slots(batch);
}

std::int64_t Trainer::State::compute_own_slots(const StepBatch& batch) {
  std::int64_t num_samples = 0;
  std::span<const SlotBatch> rest = batch.slots;
  for (const bsp::SlotRange subtree : subtrees_of(batch.slots, options.batch.microbatches)) {
    const std::span<const SlotBatch> own = rest.first(as_size(subtree.length()));
    rest = rest.subspan(own.size());
    const bool pushed = push_together(own, batch.epoch);
    for (const SlotBatch& slot : own) {
      if (!pushed) {
        push_slot(slot, batch.epoch);
      }
      num_samples += counts(slot.slot) ? slot.num_samples() : 0;
    }
  }
  return num_samples;
}

// A slot that another rank was to compute was not assembled ahead here: it is read on the spot.
std::int64_t Trainer::State::compute_claimed_slots(const StepBatch& batch) {
  std::int64_t num_samples = 0;
  while (const std::optional<int> claimed = server.claim_slot()) {
    const auto own = std::find_if(batch.slots.begin(), batch.slots.end(),
                                  [&](const SlotBatch& slot) { return slot.slot == *claimed; });
    const SlotBatch* slot = own != batch.slots.end() ? &*own : &stolen;
    if (slot == &stolen) {
      stolen.slot = *claimed;
      reader->read(batch.position(), stolen, [] { return KeepReading::kYes; });
    }
    push_slot(*slot, batch.epoch);
    num_samples += counts(slot->slot) ? slot->num_samples() : 0;
  }
  return num_samples;
}

void Trainer::State::push_slot(const SlotBatch& batch, std::int64_t epoch) {
  const std::span<float> gradient = server.reserve(batch.slot);
  if (!counts(batch.slot)) {
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    push_buckets(batch.slot, gradient);
    server.push_summary(batch.slot, {});
    return;
  }
  const paramserver::SlotSummary summary = programs_for(batch.slot).train(batch, epoch, gradient);
  SUPERSTEP_FAILPOINT_DATA("gradient", gradient);
  recheck.note({batch.slot, batch.slot + 1}, gradient, {&summary, 1});
  note_finding(numbers.look(batch, summary, gradient));
  push_buckets(batch.slot, gradient);
  server.push_summary(batch.slot, summary);
}

// A unit of any rank in the superstep in work, from the data on. The program is the one that its
// rank ran: whether slots go together depends on their sizes alone.
void Trainer::State::recompute(bsp::SlotRange unit, std::span<float> gradient,
                               std::span<paramserver::SlotSummary> into) {
  rechecked.resize(std::max(rechecked.size(), as_size(unit.length())));
  const std::span<SlotBatch> batches = std::span(rechecked).first(as_size(unit.length()));
  for (std::size_t i = 0; i < batches.size(); ++i) {
    batches[i].slot = unit.begin + static_cast<int>(i);
    reader->read({.epoch = position.epoch, .step_in_epoch = position.step_in_epoch}, batches[i],
                 [] { return KeepReading::kYes; });
  }
  if (batches.size() == 1) {
    into.front() = programs.train(batches.front(), position.epoch, gradient);
  } else {
    programs.train_together(batches, position.epoch, gradient, into);
  }
  SUPERSTEP_FAILPOINT_DATA("gradient.recomputed", gradient);
}

void Trainer::State::push_buckets(int slot, std::span<const float> gradient) {
  int bucket = 0;
  for (const paramserver::ElementRange range : server.buckets()) {
    server.push(slot, bucket++, gradient.subspan(as_size(range.begin), as_size(range.length())));
  }
}

void Trainer::State::note_finding(const std::optional<std::string>& found) {
  if (found.has_value()) {
    findings += (findings.empty() ? "" : "; ") + *found;
    server.raise_flags(kBadNumbersFlag);
  }
}

// The slots of a subtree in one pass. False, with nothing done, where they cannot be: a limit on a
// slot's gradient needs every slot's own.
bool Trainer::State::push_together(std::span<const SlotBatch> batches, std::int64_t epoch) {
  if (batches.size() < 2 || options.slot_passes == SlotPasses::kOneByOne ||
      numbers.options().gradient_limit > 0.0 || !programs.gains_together() ||
      !have_one_share(batches)) {
    return false;
  }
  StepPrograms& reading = programs_for(batches.front().slot);
  if (!reading.can_train_together(batches)) {
    return false;
  }
  const bsp::SlotRange unit{batches.front().slot, batches.back().slot + 1};
  const std::span<float> sum = server.reserve(unit);
  summaries.resize(batches.size());
  reading.train_together(batches, epoch, sum, summaries);
  SUPERSTEP_FAILPOINT_DATA("gradient", sum);
  recheck.note(unit, sum, summaries);
  bool losses_are_good = true;
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const std::optional<std::string> found = numbers.look(batches[i], summaries[i], {});
    losses_are_good = losses_are_good && !found.has_value();
    note_finding(found);
    server.push_summary(batches[i].slot, summaries[i]);
  }
  if (losses_are_good && numbers.look(batches.front(), summaries.front(), sum).has_value()) {
    look_at_slots(batches, epoch, sum);
  }
  push_buckets(unit.begin, sum);
  return true;
}

// A sum is no number: which slot is to blame? None is when finite gradients add up to infinity,
// which slots one by one would not find either.
void Trainer::State::look_at_slots(std::span<const SlotBatch> batches, std::int64_t epoch,
                                   std::span<float> gradient_sum) {
  const std::optional<std::string> of_sum =
      numbers.look(batches.front(), summaries.front(), gradient_sum);
  StepPrograms& reading = programs_for(batches.front().slot);
  bool found_slot = false;
  for (const SlotBatch& batch : batches) {
    const paramserver::SlotSummary summary = reading.train(batch, epoch, gradient_sum);
    const std::optional<std::string> found = numbers.look(batch, summary, gradient_sum);
    found_slot = found_slot || found.has_value();
    note_finding(found);
  }
  reading.train_together(batches, epoch, gradient_sum, summaries);
  if (!found_slot && !numbers.look(batches.front(), summaries.front(), gradient_sum).has_value()) {
    note_finding(of_sum);  // it was there and is not any more
  }
}

}  // namespace superstep::worker
