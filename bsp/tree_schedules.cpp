#include "bsp/tree_schedules.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "base/check.h"
#include "bsp/schedule_parts.h"

namespace superstep::bsp::internal {

namespace {

int reversed_bits(int value, int num_bits) {
  int result = 0;
  for (int bit = 0; bit < num_bits; ++bit) {
    result = result << 1 | (value >> bit & 1);
  }
  return result;
}

// A sum of n elements that 2^level ranks hold together: holder `index` has the half of the half ...
// that the bits of its index choose, the lowest bit first (0: the lower half).
struct Segment {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t count() const { return end - begin; }
};

Segment segment_of(std::int64_t n, int level, int index) {
  const std::int64_t place = reversed_bits(index, level);
  return {n * place >> level, n * (place + 1) >> level};
}

int floor_log2(int value) {
  return std::bit_width(static_cast<unsigned>(value)) - 1;
}

// Sums along the tree over ranks, in rounds up the tree (and down again): where each rank has its
// input and its sum so far, and where what it receives arrives.
class TreeRounds {
 public:
  TreeRounds(Schedule& schedule, std::int64_t n, std::vector<std::int64_t> sums,
             std::vector<std::int64_t> arrivals)
      : schedule_(schedule),
        n_(n),
        sums_(std::move(sums)),
        arrivals_(std::move(arrivals)),
        has_sum_(sums_.size(), 0) {}

  // Ends with segment_of(n, floor(log2 p), i) of the sum on each of the first 2^floor(log2 p)
  // ranks.
  void halve() {
    for (int level = 0; level < num_levels(num_ranks()); ++level) {
      Round round;
      for_each_meeting(num_ranks(), level, [&](const Meeting& meeting) {
        if (meeting.is_full()) {
          exchange_halves(meeting, level, round);
        } else {
          add_right(meeting, level, round);
        }
      });
      end_round(std::move(round));
    }
  }

  // What halve() did, backwards: ends with the whole sum on every rank.
  void share() {
    for (int level = num_levels(num_ranks()) - 1; level >= 0; --level) {
      Round round;
      for_each_meeting(num_ranks(), level, [&](const Meeting& meeting) {
        for (int i = 0; i < meeting.left_size(); ++i) {
          share_segments(meeting, level, i, round);
        }
      });
      schedule_.rounds.push_back(std::move(round));
    }
  }

  // Ends with the whole sum on every rank.
  void add_whole() {
    for (int level = 0; level < num_levels(num_ranks()); ++level) {
      Round round;
      for_each_meeting(num_ranks(), level, [&](const Meeting& meeting) {
        for (int i = 0; i < meeting.left_size(); ++i) {
          const int right = meeting.middle + i % meeting.right_size();
          receive_right(meeting.begin + i, right, {0, n_}, round);
        }
        for (int i = 0; i < meeting.right_size(); ++i) {
          receive_left(meeting.middle + i, meeting.begin + i, {0, n_}, round);
        }
      });
      end_round(std::move(round));
    }
  }

  // The segment's place in the sum that this rank has so far, its input at first.
  Location sum_so_far(int rank, const Segment& segment) const {
    const auto i = static_cast<std::size_t>(rank);
    return {rank, (has_sum_[i] != 0 ? sums_[i] : 0) + segment.begin};
  }

 private:
  int num_ranks() const { return schedule_.num_ranks; }
  Location sum_of(int rank, const Segment& segment) const {
    return {rank, sums_[static_cast<std::size_t>(rank)] + segment.begin};
  }
  Location arrival_at(int rank) const { return {rank, arrivals_[static_cast<std::size_t>(rank)]}; }

  // `rank` adds what `right` has to its own.
  void receive_right(int rank, int right, const Segment& segment, Round& round) {
    add_transfer(round, sum_so_far(right, segment), arrival_at(rank), segment.count());
    add_combine(round, {sum_of(rank, segment), sum_so_far(rank, segment), arrival_at(rank),
                        segment.count()});
  }
  // `rank` adds its own to what `left` has.
  void receive_left(int rank, int left, const Segment& segment, Round& round) {
    add_transfer(round, sum_so_far(left, segment), arrival_at(rank), segment.count());
    add_combine(round, {sum_of(rank, segment), arrival_at(rank), sum_so_far(rank, segment),
                        segment.count()});
  }
  static void add_combine(Round& round, const Combine& combine) {
    if (combine.count > 0) {
      round.combines.push_back(combine);
    }
  }

  // Both halves have as many holders: a left one goes on with the lower, a right one with the upper
  // half of their segment.
  void exchange_halves(const Meeting& meeting, int level, Round& round) {
    for (int i = 0; i < meeting.left_size(); ++i) {
      const int left = meeting.begin + i;
      const int right = meeting.middle + i;
      receive_right(left, right, segment_of(n_, level + 1, i), round);
      receive_left(right, left, segment_of(n_, level + 1, i + meeting.left_size()), round);
    }
  }

  // The right half has fewer holders, with longer segments: each serves several of the left ones.
  void add_right(const Meeting& meeting, int level, Round& round) {
    const int holders = 1 << floor_log2(meeting.right_size());
    for (int i = 0; i < meeting.left_size(); ++i) {
      receive_right(meeting.begin + i, meeting.middle + i % holders, segment_of(n_, level, i),
                    round);
    }
  }

  void share_segments(const Meeting& meeting, int level, int i, Round& round) {
    const int left = meeting.begin + i;
    if (!meeting.is_full()) {
      const int right = meeting.middle + i % (1 << floor_log2(meeting.right_size()));
      const Segment segment = segment_of(n_, level, i);
      add_transfer(round, sum_of(left, segment), sum_of(right, segment), segment.count());
      return;
    }
    const int right = meeting.middle + i;
    const Segment lower = segment_of(n_, level + 1, i);
    const Segment upper = segment_of(n_, level + 1, i + meeting.left_size());
    add_transfer(round, sum_of(left, lower), sum_of(right, lower), lower.count());
    add_transfer(round, sum_of(right, upper), sum_of(left, upper), upper.count());
  }

  void end_round(Round round) {
    for (const Combine& combine : round.combines) {
      has_sum_[static_cast<std::size_t>(combine.target.rank)] = 1;
    }
    schedule_.rounds.push_back(std::move(round));
  }

  Schedule& schedule_;
  std::int64_t n_;
  std::vector<std::int64_t> sums_;
  std::vector<std::int64_t> arrivals_;
  std::vector<char> has_sum_;
};

std::vector<std::int64_t> same_for_all(int num_ranks, std::int64_t offset) {
  return std::vector<std::int64_t>(static_cast<std::size_t>(num_ranks), offset);
}

// The largest segment that arrives at once.
std::int64_t half_of(std::int64_t n) {
  return (n + 1) / 2;
}

}  // namespace

AllreducePlan doubling_allreduce(int num_ranks, std::int64_t n) {
  AllreducePlan plan{.schedule = empty_schedule(num_ranks, 3 * n), .result_offset = n};
  TreeRounds rounds(plan.schedule, n, same_for_all(num_ranks, n), same_for_all(num_ranks, 2 * n));
  rounds.add_whole();
  return plan;
}

AllreducePlan halving_doubling_allreduce(int num_ranks, std::int64_t n) {
  AllreducePlan plan{.schedule = empty_schedule(num_ranks, 2 * n + half_of(n)), .result_offset = n};
  TreeRounds rounds(plan.schedule, n, same_for_all(num_ranks, n), same_for_all(num_ranks, 2 * n));
  rounds.halve();
  rounds.share();
  return plan;
}

ReduceScatterPlan halving_reduce_scatter(std::span<const std::int64_t> counts) {
  const auto num_ranks = static_cast<int>(counts.size());
  const std::vector<std::int64_t> offsets = offsets_of(counts);
  const std::int64_t n = offsets.back();
  ReduceScatterPlan plan{.schedule = empty_schedule(num_ranks, 2 * n + half_of(n)),
                         .result_offsets = same_for_all(num_ranks, n)};
  std::vector<std::int64_t> sums;
  std::vector<std::int64_t> arrivals;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    plan.schedule.extents[i] += counts[i];
    sums.push_back(n + counts[i]);
    arrivals.push_back(2 * n + counts[i]);
  }
  TreeRounds rounds(plan.schedule, n, std::move(sums), std::move(arrivals));
  rounds.halve();

  // Segments and parts both ascend: walk along them together.
  Round hand_out;
  const int level = floor_log2(num_ranks);
  int owner = 0;
  for (int place = 0; place < 1 << level; ++place) {
    const int holder = reversed_bits(place, level);
    for (Segment rest = segment_of(n, level, holder); rest.count() > 0;) {
      while (offsets[static_cast<std::size_t>(owner) + 1] <= rest.begin) {
        ++owner;
      }
      const auto i = static_cast<std::size_t>(owner);
      const Segment piece{rest.begin, std::min(rest.end, offsets[i + 1])};
      add_transfer(hand_out, rounds.sum_so_far(holder, piece),
                   {owner, n + piece.begin - offsets[i]}, piece.count());
      rest.begin = piece.end;
    }
  }
  plan.schedule.rounds.push_back(std::move(hand_out));
  return plan;
}

Schedule doubling_allgather(std::span<const std::int64_t> counts) {
  const auto num_ranks = static_cast<int>(counts.size());
  const std::vector<std::int64_t> offsets = offsets_of(counts);
  Schedule schedule = empty_schedule(num_ranks, offsets.back());
  const auto send = [&](Round& round, int from, int to, int first, int last) {
    const std::int64_t begin = offsets[static_cast<std::size_t>(first)];
    add_transfer(round, {from, begin}, {to, begin},
                 offsets[static_cast<std::size_t>(last)] - begin);
  };
  for (int level = 0; level < num_levels(num_ranks); ++level) {
    Round round;
    for_each_meeting(num_ranks, level, [&](const Meeting& meeting) {
      for (int i = 0; i < meeting.left_size(); ++i) {
        send(round, meeting.middle + i % meeting.right_size(), meeting.begin + i, meeting.middle,
             meeting.end);
      }
      for (int i = 0; i < meeting.right_size(); ++i) {
        send(round, meeting.begin + i, meeting.middle + i, meeting.begin, meeting.middle);
      }
    });
    schedule.rounds.push_back(std::move(round));
  }
  return schedule;
}

}  // namespace superstep::bsp::internal
