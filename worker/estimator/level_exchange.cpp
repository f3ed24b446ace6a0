#include "worker/estimator/level_exchange.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace superstep::worker {

namespace {

// Of the histograms of one rank that are under way: two of them per rank lie in shared memory.
constexpr std::size_t kPartBytes = std::size_t{4} << 20;
constexpr std::size_t kLineBytes = 64;

// Sums as the integers that they are made of.
static_assert(sizeof(GradientSum) == 3 * sizeof(std::int64_t));
constexpr std::int64_t kWordsPerSum = 3;

std::span<std::int64_t> words_of(std::span<GradientSum> sums) {
  return {reinterpret_cast<std::int64_t*>(sums.data()), sums.size() * kWordsPerSum};
}

}  // namespace

LevelExchange::LevelExchange(bsp::World& world, std::vector<std::size_t> bin_begin,
                             std::size_t max_nodes)
    : world_(world), bin_begin_(std::move(bin_begin)) {
  const std::size_t node_bytes = std::max<std::size_t>(all_bins(), 1) * sizeof(GradientSum);
  nodes_at_once_ = std::clamp<std::size_t>(kPartBytes / node_bytes, 1, max_nodes);
  if (world.size() > 1 && world.num_nodes() == 1) {
    part_bytes_ = (nodes_at_once_ * node_bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
    shared_.emplace(world, static_cast<std::int64_t>(2 * part_bytes_) * std::int64_t{world.size()});
  }
}

std::span<std::byte> LevelExchange::part(int rank, std::int64_t turn) const {
  const auto index = static_cast<std::size_t>((turn % 2) * world_.size() + rank);
  return {shared_->data() + index * part_bytes_, part_bytes_};
}

void LevelExchange::meet() {
  world_.sync();
  ++turn_;
}

std::span<GradientSum> LevelExchange::outgoing(std::size_t num_nodes) {
  SUPERSTEP_CHECK(num_nodes <= nodes_at_once_, num_nodes, nodes_at_once_);
  const std::size_t size = num_nodes * all_bins();
  if (shared_) {
    return {reinterpret_cast<GradientSum*>(part(world_.rank(), turn_).data()), size};
  }
  own_.resize(size);
  return own_;
}

void LevelExchange::reduce(std::span<const std::span<GradientSum>> targets) {
  if (shared_) {
    reduce_shared(targets);
  } else {
    reduce_scattered(targets);
  }
}

void LevelExchange::reduce_shared(std::span<const std::span<GradientSum>> targets) {
  meet();
  for (int rank = 0; rank < world_.size(); ++rank) {
    const auto* sums = reinterpret_cast<const GradientSum*>(part(rank, turn_ - 1).data());
    for (std::size_t i = 0; i < targets.size(); ++i) {
      const GradientSum* const own = sums + i * all_bins() + own_begin();
      for (std::size_t bin = 0; bin < targets[i].size(); ++bin) {
        if (rank == 0) {
          targets[i][bin] = own[bin];
        } else {
          targets[i][bin] += own[bin];
        }
      }
    }
  }
}

void LevelExchange::reduce_scattered(std::span<const std::span<GradientSum>> targets) {
  const std::size_t num_nodes = targets.size();
  by_owner_.resize(own_.size());
  std::vector<std::int64_t> counts;
  auto to = by_owner_.begin();
  for (std::size_t rank = 0; rank + 1 < bin_begin_.size(); ++rank) {
    const std::size_t bins = bin_begin_[rank + 1] - bin_begin_[rank];
    for (std::size_t i = 0; i < num_nodes; ++i) {
      to = std::copy_n(
          own_.begin() + static_cast<std::ptrdiff_t>(i * all_bins() + bin_begin_[rank]), bins, to);
    }
    counts.push_back(static_cast<std::int64_t>(num_nodes * bins) * kWordsPerSum);
  }
  const std::size_t own_bins =
      bin_begin_[static_cast<std::size_t>(world_.rank()) + 1] - own_begin();
  received_.resize(num_nodes * own_bins);
  world_.reduce_scatter(std::span<const std::int64_t>(words_of(by_owner_)), words_of(received_),
                        counts, bsp::ReduceOp::kSum);
  for (std::size_t i = 0; i < num_nodes; ++i) {
    std::copy_n(received_.begin() + static_cast<std::ptrdiff_t>(i * own_bins), own_bins,
                targets[i].begin());
  }
}

void LevelExchange::gather(std::span<const std::int64_t> mine, std::vector<std::int64_t>& all) {
  const auto ranks = static_cast<std::size_t>(world_.size());
  all.resize(ranks * mine.size());
  if (!shared_) {
    const std::vector<std::int64_t> counts(ranks, static_cast<std::int64_t>(mine.size()));
    world_.allgather(mine, std::span<std::int64_t>(all), counts);
    return;
  }
  const std::size_t at_once = part_bytes_ / sizeof(std::int64_t);
  for (std::size_t begin = 0; begin < mine.size(); begin += at_once) {
    const std::size_t count = std::min(at_once, mine.size() - begin);
    const auto words_from = [](std::span<std::byte> bytes) {
      return reinterpret_cast<std::int64_t*>(bytes.data());
    };
    std::copy_n(mine.begin() + static_cast<std::ptrdiff_t>(begin), count,
                words_from(part(world_.rank(), turn_)));
    meet();
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      std::copy_n(words_from(part(static_cast<int>(rank), turn_ - 1)), count,
                  all.begin() + static_cast<std::ptrdiff_t>(rank * mine.size() + begin));
    }
  }
}

}  // namespace superstep::worker
