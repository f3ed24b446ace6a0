#include "bsp/schedule_proof.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "base/checked_cast.h"
#include "bsp/schedule_parts.h"

namespace superstep::bsp {

namespace {

using internal::RankPlan;
using internal::RankRound;
using internal::RankTransfer;
using Complaints = std::vector<std::string>;

// One side of a message; sorted by (from, to), messages of a pair keep their order.
struct HalfMessage {
  int from = 0;
  int to = 0;
  std::int64_t count = 0;

  friend bool operator==(const HalfMessage&, const HalfMessage&) = default;
};

// Stable, by two passes of counting: there are up to p^2 messages.
template <typename Key>
void sort_by(std::vector<HalfMessage>& messages, std::size_t num_ranks, Key&& key) {
  std::vector<std::size_t> place(num_ranks + 1, 0);
  for (const HalfMessage& message : messages) {
    ++place[static_cast<std::size_t>(key(message)) + 1];
  }
  std::partial_sum(place.begin(), place.end(), place.begin());
  std::vector<HalfMessage> sorted(messages.size());
  for (const HalfMessage& message : messages) {
    sorted[place[static_cast<std::size_t>(key(message))]++] = message;
  }
  messages = std::move(sorted);
}

void sort_messages(std::vector<HalfMessage>& messages, std::size_t num_ranks) {
  sort_by(messages, num_ranks, [](const HalfMessage& message) { return message.to; });
  sort_by(messages, num_ranks, [](const HalfMessage& message) { return message.from; });
}

void match_messages(std::span<const RankPlan> plans, std::size_t round, Complaints& wrong) {
  std::vector<HalfMessage> sent;
  std::vector<HalfMessage> received;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const RankRound& mine = plans[i].rounds[round];
    const auto rank = static_cast<int>(i);
    for (const RankTransfer& send : mine.sends) {
      sent.push_back({rank, send.peer, send.count});
    }
    for (const RankTransfer& receive : mine.receives) {
      received.push_back({receive.peer, rank, receive.count});
    }
    if (mine.exchanges != plans[0].rounds[round].exchanges ||
        (!mine.exchanges && mine.sends.size() + mine.receives.size() > 0)) {
      wrong.push_back(
          fmt::format("round {}: rank {} does not take part in the exchange of the "
                      "others",
                      round, rank));
    }
  }
  sort_messages(sent, plans.size());
  sort_messages(received, plans.size());
  const auto [send, receive] =
      std::mismatch(sent.begin(), sent.end(), received.begin(), received.end());
  if (send != sent.end() || receive != received.end()) {
    const HalfMessage& odd = send != sent.end() ? *send : *receive;
    wrong.push_back(
        fmt::format("round {}: a message of {} elements from rank {} to rank {} has no "
                    "match",
                    round, odd.count, odd.from, odd.to));
  }
}

// Everybody goes on as far as possible, until nobody can.
void let_run(std::span<const RankPlan> plans, Complaints& wrong) {
  std::vector<std::size_t> round_of(plans.size(), 0);
  const auto waits_for = [&](std::size_t rank) -> int {
    const std::size_t now = round_of[rank];
    const RankRound& round = plans[rank].rounds[now];
    for (const std::vector<RankTransfer>* messages : {&round.sends, &round.receives}) {
      for (const RankTransfer& message : *messages) {
        const auto peer = static_cast<std::size_t>(message.peer);
        const bool never_gets_there = plans[peer].rounds.size() <= now;
        if (round_of[peer] < now || never_gets_there) {
          return message.peer;
        }
      }
    }
    return -1;
  };
  const auto is_done = [&](std::size_t rank) {
    return round_of[rank] == plans[rank].rounds.size();
  };
  for (bool somebody_moved = true; somebody_moved;) {
    somebody_moved = false;
    for (std::size_t rank = 0; rank < plans.size(); ++rank) {
      if (!is_done(rank) && waits_for(rank) < 0) {
        ++round_of[rank];
        somebody_moved = true;
      }
    }
  }
  for (std::size_t rank = 0; rank < plans.size(); ++rank) {
    if (!is_done(rank)) {
      wrong.push_back(fmt::format("rank {} waits for rank {} in round {} for ever", rank,
                                  waits_for(rank), round_of[rank]));
    }
  }
}

using Symbols = std::vector<std::vector<TreeSum>>;

TreeSum symbol(std::int64_t element, int begin, int end) {
  return {static_cast<std::int32_t>(element), static_cast<std::int16_t>(begin),
          static_cast<std::int16_t>(end)};
}

// What a rank's address space starts with: its own elements, from an offset on.
struct Input {
  std::int64_t offset = 0;
  std::int64_t first_element = 0;
  std::int64_t count = 0;

  TreeSum at(std::int64_t i, int rank) const { return symbol(first_element + i, rank, rank + 1); }
};

Symbols buffers_for(const Schedule& schedule, std::span<const Input> inputs) {
  checked_cast<std::int16_t>(schedule.num_ranks, "number of ranks of a proof");
  Symbols buffers;
  for (std::size_t r = 0; r < inputs.size(); ++r) {
    const Input& input = inputs[r];
    checked_cast<std::int32_t>(input.first_element + input.count, "number of elements of a proof");
    buffers.emplace_back(static_cast<std::size_t>(schedule.extents[r]));
    for (std::int64_t i = 0; i < input.count; ++i) {
      buffers[r][static_cast<std::size_t>(input.offset + i)] = input.at(i, static_cast<int>(r));
    }
  }
  return buffers;
}

void expect_inputs_kept(const Symbols& buffers, std::span<const Input> inputs, Complaints& wrong) {
  for (std::size_t r = 0; r < inputs.size(); ++r) {
    const Input& input = inputs[r];
    bool is_kept = true;
    for (std::int64_t i = 0; i < input.count; ++i) {
      is_kept &= buffers[r][static_cast<std::size_t>(input.offset + i)] ==
                 input.at(i, static_cast<int>(r));
    }
    if (!is_kept) {
      wrong.push_back(fmt::format("the input of rank {} was written", r));
    }
  }
}

// The three proofs: of memory, of progress, and of the result. `expect(buffers)` says what of the
// result is wrong.
Complaints prove_all(const Schedule& schedule, std::span<const int> node_of_rank,
                     const std::function<Input(int rank)>& input,
                     const std::function<void(const Symbols&, Complaints&)>& expect) {
  std::vector<Input> inputs;
  inputs.reserve(static_cast<std::size_t>(schedule.num_ranks));
  for (int rank = 0; rank < schedule.num_ranks; ++rank) {
    inputs.push_back(input(rank));
  }
  Complaints wrong = prove(schedule, node_of_rank, [&](int rank) {
    const Input& mine = inputs[static_cast<std::size_t>(rank)];
    return std::vector<std::pair<std::int64_t, std::int64_t>>{
        {mine.offset, mine.offset + mine.count}};
  });
  if (!wrong.empty()) {
    return wrong;  // not to be simulated
  }
  wrong = prove_progress(internal::plans_of_ranks(schedule));
  Symbols buffers = buffers_for(schedule, inputs);
  simulate(schedule, buffers);
  expect(buffers, wrong);
  expect_inputs_kept(buffers, inputs, wrong);
  return wrong;
}

void expect_symbol(const Symbols& buffers, int rank, std::int64_t offset, const TreeSum& expected,
                   Complaints& wrong) {
  const TreeSum& got = buffers[static_cast<std::size_t>(rank)][static_cast<std::size_t>(offset)];
  if (got != expected) {
    wrong.push_back(fmt::format(
        "element {} of the result of rank {}: got element {} over ranks [{}, {}), expected "
        "element {} over ranks [{}, {})",
        offset, rank, got.element, got.begin, got.end, expected.element, expected.begin,
        expected.end));
  }
}

// The concatenation of every rank's elements, from `base` on.
void expect_concatenation(const Symbols& buffers, int rank, std::int64_t base,
                          std::span<const std::int64_t> counts, Complaints& wrong) {
  std::int64_t element = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto owner = static_cast<int>(i);
    for (std::int64_t k = 0; k < counts[i]; ++k, ++element) {
      expect_symbol(buffers, rank, base + element, symbol(element, owner, owner + 1), wrong);
    }
  }
}

}  // namespace

Complaints prove_progress(std::span<const RankPlan> plans) {
  Complaints wrong;
  for (std::size_t i = 0; i < plans.size(); ++i) {
    if (plans[i].rounds.size() != plans[0].rounds.size()) {
      wrong.push_back(fmt::format("rank {} has {} rounds, rank 0 has {}", i, plans[i].rounds.size(),
                                  plans[0].rounds.size()));
    }
  }
  if (wrong.empty() && !plans.empty()) {
    for (std::size_t round = 0; round < plans[0].rounds.size(); ++round) {
      match_messages(plans, round, wrong);
    }
  }
  let_run(plans, wrong);
  return wrong;
}

Complaints prove_allreduce(const AllreducePlan& plan, std::span<const int> node_of_rank,
                           std::int64_t n) {
  const int num_ranks = plan.schedule.num_ranks;
  return prove_all(
      plan.schedule, node_of_rank,
      [&](int /*rank*/) {
        return Input{0, 0, n};
      },
      [&](const Symbols& buffers, Complaints& wrong) {
        for (int rank = 0; rank < num_ranks; ++rank) {
          for (std::int64_t i = 0; i < n; ++i) {
            expect_symbol(buffers, rank, plan.result_offset + i, symbol(i, 0, num_ranks), wrong);
          }
        }
      });
}

Complaints prove_reduce_scatter(const ReduceScatterPlan& plan, std::span<const int> node_of_rank,
                                std::span<const std::int64_t> counts) {
  const int num_ranks = plan.schedule.num_ranks;
  const std::vector<std::int64_t> offsets = internal::offsets_of(counts);
  return prove_all(
      plan.schedule, node_of_rank,
      [&](int /*rank*/) {
        return Input{0, 0, offsets.back()};
      },
      [&](const Symbols& buffers, Complaints& wrong) {
        for (int rank = 0; rank < num_ranks; ++rank) {
          const auto r = static_cast<std::size_t>(rank);
          for (std::int64_t i = 0; i < counts[r]; ++i) {
            expect_symbol(buffers, rank, plan.result_offsets[r] + i,
                          symbol(offsets[r] + i, 0, num_ranks), wrong);
          }
        }
      });
}

Complaints prove_allgather(const Schedule& schedule, std::span<const int> node_of_rank,
                           std::span<const std::int64_t> counts) {
  const std::vector<std::int64_t> offsets = internal::offsets_of(counts);
  return prove_all(
      schedule, node_of_rank,
      [&](int rank) {
        const auto r = static_cast<std::size_t>(rank);
        return Input{offsets[r], offsets[r], counts[r]};
      },
      [&](const Symbols& buffers, Complaints& wrong) {
        for (int rank = 0; rank < schedule.num_ranks; ++rank) {
          expect_concatenation(buffers, rank, 0, counts, wrong);
        }
      });
}

Complaints prove_gather(const Schedule& schedule, std::span<const int> node_of_rank,
                        std::span<const std::int64_t> counts, int root) {
  const std::vector<std::int64_t> offsets = internal::offsets_of(counts);
  return prove_all(
      schedule, node_of_rank,
      [&](int rank) {
        const auto r = static_cast<std::size_t>(rank);
        return Input{0, offsets[r], counts[r]};
      },
      [&](const Symbols& buffers, Complaints& wrong) {
        expect_concatenation(buffers, root, counts[static_cast<std::size_t>(root)], counts, wrong);
      });
}

Complaints prove_broadcast(const Schedule& schedule, std::span<const int> node_of_rank, int root,
                           std::int64_t n) {
  return prove_all(
      schedule, node_of_rank,
      [&](int rank) {
        return Input{0, 0, rank == root ? n : 0};
      },
      [&](const Symbols& buffers, Complaints& wrong) {
        for (int rank = 0; rank < schedule.num_ranks; ++rank) {
          for (std::int64_t i = 0; i < n; ++i) {
            expect_symbol(buffers, rank, i, symbol(i, root, root + 1), wrong);
          }
        }
      });
}

}  // namespace superstep::bsp
