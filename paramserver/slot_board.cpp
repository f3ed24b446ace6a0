#include "paramserver/slot_board.h"

#include <algorithm>
#include <numeric>

#include "bsp/slot_tree.h"
#include "bsp/tree_reduce.h"

namespace superstep::paramserver {

namespace {

constexpr std::int64_t kRowFields = 4;  // samples, correct, loss, rank

SlotSummary tree_total(std::span<const SlotSummary> summaries, bsp::SlotRange range) {
  if (range.length() == 1) {
    return summaries[static_cast<std::size_t>(range.begin)];
  }
  const int middle = bsp::split_point(range);
  const SlotSummary left = tree_total(summaries, {range.begin, middle});
  const SlotSummary right = tree_total(summaries, {middle, range.end});
  return {.num_samples = left.num_samples + right.num_samples,
          .num_correct = left.num_correct + right.num_correct,
          .loss_sum = left.loss_sum + right.loss_sum};
}

}  // namespace

SlotBoard::SlotBoard(bsp::World& world, int num_slots)
    : world_(world),
      summaries_(world, num_slots),
      raised_(world, world.size()),
      homes_(world, num_slots),
      all_(static_cast<std::size_t>(num_slots)),
      all_homes_(static_cast<std::size_t>(num_slots)) {}

void SlotBoard::post(int slot, const SlotSummary& summary) {
  summaries_.span()[static_cast<std::size_t>(slot)] = summary;
}

void SlotBoard::post_home(int slot, SlotHome home) {
  homes_.span()[static_cast<std::size_t>(slot)] = home;
}

void SlotBoard::post_flags(std::uint32_t flags) {
  raised_.span()[static_cast<std::size_t>(world_.rank())] = flags;
}

void SlotBoard::share(std::span<const int> placement) {
  std::copy(summaries_.span().begin(), summaries_.span().end(), all_.begin());
  std::copy(homes_.span().begin(), homes_.span().end(), all_homes_.begin());
  flags_ = 0;
  for (const int rank : world_.ranks_at(bsp::Level::kNode)) {
    flags_ |= raised_.span()[static_cast<std::size_t>(rank)];
  }
  if (world_.num_nodes() > 1) {
    gather_from_other_nodes(placement);
  }
  total_ = tree_total(all_, {0, static_cast<int>(all_.size())});
}

// Each rank sends the rows of the slots placed on it and its flags as doubles, which hold these
// counts exactly.
void SlotBoard::gather_from_other_nodes(std::span<const int> placement) {
  const auto slots = bsp::slots_of_ranks(placement, world_.size());
  std::vector<std::int64_t> counts;
  for (const std::vector<int>& own : slots) {
    counts.push_back(static_cast<std::int64_t>(own.size()) * kRowFields + 1);
  }
  std::vector<double> mine;
  for (const int slot : slots[static_cast<std::size_t>(world_.rank())]) {
    const SlotSummary& summary = all_[static_cast<std::size_t>(slot)];
    mine.push_back(static_cast<double>(summary.num_samples));
    mine.push_back(static_cast<double>(summary.num_correct));
    mine.push_back(summary.loss_sum);
    mine.push_back(static_cast<double>(all_homes_[static_cast<std::size_t>(slot)].rank));
  }
  mine.push_back(static_cast<double>(raised_.span()[static_cast<std::size_t>(world_.rank())]));
  std::vector<double> all(
      static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
  world_.allgather(std::span<const double>(mine), std::span<double>(all), counts);
  auto value = all.begin();
  for (const std::vector<int>& own : slots) {
    for (const int slot : own) {
      SlotSummary& summary = all_[static_cast<std::size_t>(slot)];
      summary.num_samples = static_cast<std::int64_t>(*value++);
      summary.num_correct = static_cast<std::int64_t>(*value++);
      summary.loss_sum = *value++;
      all_homes_[static_cast<std::size_t>(slot)].rank = static_cast<std::int32_t>(*value++);
    }
    flags_ |= static_cast<std::uint32_t>(*value++);
  }
}

}  // namespace superstep::paramserver
