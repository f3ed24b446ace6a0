// Schedules without a machine: the prover and the in-process simulation.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/check.h"
#include "bsp/schedule.h"
#include "bsp/schedule_proof.h"

namespace superstep::bsp {

namespace {

// Disjoint half-open intervals of elements in ascending order, merged where they touch.
class Intervals {
 public:
  void add(std::int64_t begin, std::int64_t end) {
    if (begin >= end) {
      return;
    }
    if (intervals_.empty() || intervals_.back().end < begin) {
      intervals_.push_back({begin, end});
      return;
    }
    const auto first = first_ending_from(begin);
    const auto last = std::partition_point(
        first, intervals_.end(), [&](const Interval& other) { return other.begin <= end; });
    if (first == last) {
      intervals_.insert(first, {begin, end});
      return;
    }
    first->begin = std::min(first->begin, begin);
    first->end = std::max(std::prev(last)->end, end);
    intervals_.erase(first + 1, last);
  }
  bool contains(std::int64_t begin, std::int64_t end) {
    const auto found = first_ending_from(end);
    return begin >= end || (found != intervals_.end() && found->begin <= begin);
  }
  bool overlaps(std::int64_t begin, std::int64_t end) {
    const auto found = first_ending_from(begin + 1);
    return begin < end && found != intervals_.end() && found->begin < end;
  }

 private:
  struct Interval {
    std::int64_t begin = 0;
    std::int64_t end = 0;
  };

  std::vector<Interval>::iterator first_ending_from(std::int64_t place) {
    return std::partition_point(intervals_.begin(), intervals_.end(),
                                [&](const Interval& other) { return other.end < place; });
  }

  std::vector<Interval> intervals_;
};

using ByRank = std::vector<Intervals>;

std::string name_of(const Location& location, std::int64_t count) {
  return fmt::format("elements [{}, {}) of rank {}", location.offset, location.offset + count,
                     location.rank);
}

class Prover {
 public:
  Prover(const Schedule& schedule, std::span<const int> node_of_rank)
      : schedule_(schedule), node_of_rank_(node_of_rank), known_(schedule.extents.size()) {}

  std::vector<std::string> run(
      const std::function<std::vector<std::pair<std::int64_t, std::int64_t>>(int)>& initialised) {
    if (std::cmp_not_equal(schedule_.extents.size(), schedule_.num_ranks) ||
        std::cmp_not_equal(node_of_rank_.size(), schedule_.num_ranks)) {
      return {fmt::format("{} ranks, but {} extents and {} nodes given", schedule_.num_ranks,
                          schedule_.extents.size(), node_of_rank_.size())};
    }
    for (int rank = 0; rank < schedule_.num_ranks; ++rank) {
      for (const auto& [begin, end] : initialised(rank)) {
        known_[static_cast<std::size_t>(rank)].add(begin, end);
      }
    }
    for (round_ = 0; round_ < schedule_.rounds.size(); ++round_) {
      check_transfers(schedule_.rounds[round_]);
      check_combines(schedule_.rounds[round_]);
    }
    return std::move(wrong_);
  }

 private:
  void complain(const std::string& what) {
    wrong_.push_back(fmt::format("round {}: {}", round_, what));
  }
  Intervals& of(ByRank& ranks, const Location& location) {
    return ranks[static_cast<std::size_t>(location.rank)];
  }

  bool is_address(const Location& location, std::int64_t count) {
    const bool good =
        location.rank >= 0 && location.rank < schedule_.num_ranks && location.offset >= 0 &&
        count > 0 &&
        location.offset + count <= schedule_.extents[static_cast<std::size_t>(location.rank)];
    if (!good) {
      complain(fmt::format("{} are outside of its address space", name_of(location, count)));
    }
    return good;
  }
  void require_known(const Location& location, std::int64_t count) {
    if (!of(known_, location).contains(location.offset, location.offset + count)) {
      complain(fmt::format("{} are read but were never written", name_of(location, count)));
    }
  }

  // Transfers of a round run at the same time: none may write what another reads or writes.
  void check_transfers(const Round& round) {
    ByRank read(known_.size());
    ByRank written(known_.size());
    std::vector<const Transfer*> good;
    for (const Transfer& transfer : round.transfers) {
      if (is_address(transfer.from, transfer.count) && is_address(transfer.to, transfer.count)) {
        require_known(transfer.from, transfer.count);
        of(read, transfer.from).add(transfer.from.offset, transfer.from.offset + transfer.count);
        good.push_back(&transfer);
      }
    }
    for (const Transfer* transfer : good) {
      const Location& to = transfer->to;
      const std::int64_t end = to.offset + transfer->count;
      if (of(written, to).overlaps(to.offset, end)) {
        complain(fmt::format("{} have two writers", name_of(to, transfer->count)));
      }
      if (of(read, to).overlaps(to.offset, end)) {
        complain(fmt::format("{} are written while they are read", name_of(to, transfer->count)));
      }
      of(written, to).add(to.offset, end);
    }
    for (const Transfer* transfer : good) {
      of(known_, transfer->to).add(transfer->to.offset, transfer->to.offset + transfer->count);
    }
  }

  // Combines run in order on their rank, at the same time as those of other ranks.
  void check_combines(const Round& round) {
    ByRank written(known_.size());
    for (const Combine& combine : round.combines) {
      if (is_address(combine.target, combine.count) && is_address(combine.left, combine.count) &&
          is_address(combine.right, combine.count)) {
        of(written, combine.target)
            .add(combine.target.offset, combine.target.offset + combine.count);
      }
    }
    for (const Combine& combine : round.combines) {
      if (std::max({combine.target.rank, combine.left.rank, combine.right.rank}) >=
          schedule_.num_ranks) {
        continue;  // complained about above
      }
      for (const Location& operand : {combine.left, combine.right}) {
        check_operand(combine, operand, written);
      }
      of(known_, combine.target).add(combine.target.offset, combine.target.offset + combine.count);
    }
  }

  void check_operand(const Combine& combine, const Location& operand, ByRank& written) {
    require_known(operand, combine.count);
    const int at = combine.target.rank;
    if (operand.rank != at) {
      if (node_of_rank_[static_cast<std::size_t>(operand.rank)] !=
          node_of_rank_[static_cast<std::size_t>(at)]) {
        complain(fmt::format("rank {} combines {}, which are on another node", at,
                             name_of(operand, combine.count)));
      }
      if (of(written, operand).overlaps(operand.offset, operand.offset + combine.count)) {
        complain(fmt::format("rank {} combines {}, which are written in the same round", at,
                             name_of(operand, combine.count)));
      }
    } else if (operand.offset != combine.target.offset &&
               operand.offset < combine.target.offset + combine.count &&
               combine.target.offset < operand.offset + combine.count) {
      complain(fmt::format("{} overlap the target of their sum", name_of(operand, combine.count)));
    }
  }

  const Schedule& schedule_;
  std::span<const int> node_of_rank_;
  ByRank known_;
  std::vector<std::string> wrong_;
  std::size_t round_ = 0;
};

template <typename T>
void simulate_as(const Schedule& schedule, std::span<std::vector<T>> buffers) {
  SUPERSTEP_CHECK(std::cmp_equal(buffers.size(), schedule.num_ranks), "one buffer per rank",
                  buffers.size(), schedule.num_ranks);
  for (std::size_t rank = 0; rank < buffers.size(); ++rank) {
    SUPERSTEP_CHECK(std::cmp_greater_equal(buffers[rank].size(), schedule.extents[rank]),
                    "buffer of rank", rank);
  }
  const auto at = [&](const Location& location) {
    return buffers[static_cast<std::size_t>(location.rank)].data() + location.offset;
  };
  std::vector<T> in_flight;
  for (const Round& round : schedule.rounds) {
    in_flight.clear();
    for (const Transfer& transfer : round.transfers) {
      in_flight.insert(in_flight.end(), at(transfer.from), at(transfer.from) + transfer.count);
    }
    auto arriving = in_flight.cbegin();
    for (const Transfer& transfer : round.transfers) {
      std::copy_n(arriving, transfer.count, at(transfer.to));
      arriving += transfer.count;
    }
    for (const Combine& combine : round.combines) {
      T* target = at(combine.target);
      const T* left = at(combine.left);
      const T* right = at(combine.right);
      for (std::int64_t i = 0; i < combine.count; ++i) {
        target[i] = left[i] + right[i];
      }
    }
  }
}

}  // namespace

std::vector<std::string> prove(
    const Schedule& schedule, std::span<const int> node_of_rank,
    const std::function<std::vector<std::pair<std::int64_t, std::int64_t>>(int rank)>&
        initialised) {
  return Prover(schedule, node_of_rank).run(initialised);
}

void simulate(const Schedule& schedule, std::span<std::vector<double>> buffers) {
  simulate_as(schedule, buffers);
}
void simulate(const Schedule& schedule, std::span<std::vector<float>> buffers) {
  simulate_as(schedule, buffers);
}
void simulate(const Schedule& schedule, std::span<std::vector<TreeSum>> buffers) {
  simulate_as(schedule, buffers);
}

}  // namespace superstep::bsp
