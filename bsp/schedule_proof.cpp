#include "bsp/schedule_proof.h"

#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "base/checked_cast.h"
#include "bsp/schedule_parts.h"
#include "bsp/slot_tree.h"

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

void sort_messages(std::vector<HalfMessage>& messages) {
  std::stable_sort(messages.begin(), messages.end(),
                   [](const HalfMessage& a, const HalfMessage& b) {
                     return std::tie(a.from, a.to) < std::tie(b.from, b.to);
                   });
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
  sort_messages(sent);
  sort_messages(received);
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
  return {checked_cast<std::int32_t>(element), checked_cast<std::int16_t>(begin),
          checked_cast<std::int16_t>(end)};
}

// The three proofs: of memory, of progress, and of the result. `input(rank)` gives the symbols that
// a rank's address space starts with, from an offset on; `expect(buffers)` says what of the result
// is wrong.
struct Input {
  std::int64_t offset = 0;
  std::vector<TreeSum> symbols;
};

Complaints prove_all(const Schedule& schedule, std::span<const int> node_of_rank,
                     const std::function<Input(int rank)>& input,
                     const std::function<void(const Symbols&, Complaints&)>& expect) {
  std::vector<Input> inputs;
  for (int rank = 0; rank < schedule.num_ranks; ++rank) {
    inputs.push_back(input(rank));
  }
  Complaints wrong = prove(schedule, node_of_rank, [&](int rank) {
    const Input& mine = inputs[static_cast<std::size_t>(rank)];
    const auto size = static_cast<std::int64_t>(mine.symbols.size());
    return std::vector<std::pair<std::int64_t, std::int64_t>>{{mine.offset, mine.offset + size}};
  });
  if (!wrong.empty()) {
    return wrong;  // not to be simulated
  }
  wrong = prove_progress(internal::plans_of_ranks(schedule));
  Symbols buffers(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    buffers[i].resize(static_cast<std::size_t>(schedule.extents[i]));
    std::copy(inputs[i].symbols.begin(), inputs[i].symbols.end(),
              buffers[i].begin() + inputs[i].offset);
  }
  simulate(schedule, buffers);
  expect(buffers, wrong);
  for (std::size_t i = 0; i < inputs.size() && inputs[i].offset == 0; ++i) {
    if (!std::equal(inputs[i].symbols.begin(), inputs[i].symbols.end(), buffers[i].begin())) {
      wrong.push_back(fmt::format("the input of rank {} was written", i));
    }
  }
  return wrong;
}

std::vector<TreeSum> own_elements(int rank, std::int64_t first, std::int64_t count) {
  std::vector<TreeSum> symbols;
  symbols.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    symbols.push_back(symbol(first + i, rank, rank + 1));
  }
  return symbols;
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

TreeSum operator+(const TreeSum& left, const TreeSum& right) {
  const bool adjacent = left.element == right.element && left.end == right.begin &&
                        left.begin < left.end && right.begin < right.end;
  if (!adjacent || split_point({left.begin, right.end}) != left.end) {
    return {};
  }
  return {left.element, left.begin, right.end};
}

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
      [&](int rank) {
        return Input{0, own_elements(rank, 0, n)};
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
      [&](int rank) {
        return Input{0, own_elements(rank, 0, offsets.back())};
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
        return Input{offsets[r], own_elements(rank, offsets[r], counts[r])};
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
        return Input{0, own_elements(rank, offsets[r], counts[r])};
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
        return Input{0, own_elements(rank, 0, rank == root ? n : 0)};
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
