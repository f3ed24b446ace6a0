#include "bsp/execute.h"

#include <cstring>

#include <fmt/format.h>

#include "base/check.h"
#include "base/error.h"
#include "bsp/reduce.h"
#include "bsp/world_state.h"

namespace superstep::bsp {

namespace internal {

namespace {

void add_sent(RankRound& round, const Transfer& transfer) {
  if (transfer.from.rank == transfer.to.rank) {
    round.copies.push_back(transfer);
  } else {
    round.sends.push_back({transfer.to.rank, transfer.from.offset, transfer.count});
  }
}

void add_received(RankRound& round, const Transfer& transfer) {
  if (transfer.from.rank != transfer.to.rank) {
    round.receives.push_back({transfer.from.rank, transfer.to.offset, transfer.count});
  }
}

bool is_remote(const Combine& combine) {
  return combine.left.rank != combine.target.rank || combine.right.rank != combine.target.rank;
}

// A rank's elements: its pieces, or address spaces by rank.
class Memory {
 public:
  Memory(int rank, std::int64_t element_bytes, std::span<const MemoryPiece> pieces,
         std::span<std::byte* const> address_spaces)
      : rank_(rank),
        element_bytes_(element_bytes),
        pieces_(pieces),
        address_spaces_(address_spaces) {}

  std::byte* at(const Location& location, std::int64_t count) const {
    if (location.rank == rank_) {
      for (const MemoryPiece& piece : pieces_) {
        if (location.offset >= piece.begin &&
            location.offset + count <= piece.begin + piece.count) {
          return piece.data + (location.offset - piece.begin) * element_bytes_;
        }
      }
    }
    const auto i = static_cast<std::size_t>(location.rank);
    SUPERSTEP_CHECK(i < address_spaces_.size() && address_spaces_[i] != nullptr,
                    "elements without memory: rank, offset, count", location.rank, location.offset,
                    count);
    return address_spaces_[i] + location.offset * element_bytes_;
  }
  std::span<std::byte> span(const Location& location, std::int64_t count) const {
    return {at(location, count), static_cast<std::size_t>(count * element_bytes_)};
  }

 private:
  int rank_;
  std::int64_t element_bytes_;
  std::span<const MemoryPiece> pieces_;
  std::span<std::byte* const> address_spaces_;
};

}  // namespace

RankPlan plan_of_rank(const Schedule& schedule, int rank) {
  RankPlan plan{.extent = schedule.extents[static_cast<std::size_t>(rank)], .rounds = {}};
  for (const Round& round : schedule.rounds) {
    RankRound& mine = plan.rounds.emplace_back();
    for (const Transfer& transfer : round.transfers) {
      if (transfer.from.rank == rank) {
        add_sent(mine, transfer);
      }
      if (transfer.to.rank == rank) {
        add_received(mine, transfer);
      }
      mine.exchanges |= transfer.from.rank != transfer.to.rank;
    }
    for (const Combine& combine : round.combines) {
      mine.remote_combines |= is_remote(combine);
      if (combine.target.rank == rank) {
        mine.combines.push_back(combine);
      }
    }
  }
  return plan;
}

std::vector<RankPlan> plans_of_ranks(const Schedule& schedule) {
  std::vector<RankPlan> plans;
  for (const std::int64_t extent : schedule.extents) {
    plans.push_back({.extent = extent, .rounds = {}});
    plans.back().rounds.resize(schedule.rounds.size());
  }
  for (std::size_t i = 0; i < schedule.rounds.size(); ++i) {
    const auto of = [&](int rank) -> RankRound& {
      return plans[static_cast<std::size_t>(rank)].rounds[i];
    };
    bool exchanges = false;
    bool remote_combines = false;
    for (const Transfer& transfer : schedule.rounds[i].transfers) {
      add_sent(of(transfer.from.rank), transfer);
      add_received(of(transfer.to.rank), transfer);
      exchanges |= transfer.from.rank != transfer.to.rank;
    }
    for (const Combine& combine : schedule.rounds[i].combines) {
      of(combine.target.rank).combines.push_back(combine);
      remote_combines |= is_remote(combine);
    }
    for (RankPlan& plan : plans) {
      plan.rounds[i].exchanges = exchanges;
      plan.rounds[i].remote_combines = remote_combines;
    }
  }
  return plans;
}

void execute_bytes(World& world, const Schedule& schedule,
                   std::span<std::byte* const> address_spaces, DataType type, ReduceOp op,
                   CallSite site) {
  World::State& state = WorldAccess::state(world);
  if (schedule.num_ranks != state.size()) {
    throw InvalidArgument("execute",
                          fmt::format("schedule of another world: got {} ranks, expected {}",
                                      schedule.num_ranks, state.size()));
  }
  const CollectiveCall call(state, {.kind = CallKind::kExecute,
                                    .type = static_cast<std::uint8_t>(type),
                                    .op = static_cast<std::uint8_t>(op),
                                    .detail = hash_counts(schedule.extents),
                                    .site = site});
  state.execute(plan_of_rank(schedule, state.rank), {}, type, op, address_spaces);
}

}  // namespace internal

void World::State::execute(const internal::RankPlan& plan,
                           std::span<const internal::MemoryPiece> pieces, DataType type,
                           ReduceOp op, std::span<std::byte* const> address_spaces) {
  const internal::Memory memory(rank, internal::size_of(type), pieces, address_spaces);
  for (const internal::RankRound& round : plan.rounds) {
    outgoing.clear();
    incoming.clear();
    for (const internal::RankTransfer& send : round.sends) {
      outgoing.push_back({send.peer, memory.span({rank, send.offset}, send.count)});
    }
    for (const internal::RankTransfer& receive : round.receives) {
      incoming.push_back({receive.peer, memory.span({rank, receive.offset}, receive.count)});
    }
    if (round.exchanges) {
      exchange(outgoing, incoming);
    }
    for (const Transfer& copy : round.copies) {
      const auto from = memory.span(copy.from, copy.count);
      std::memmove(memory.at(copy.to, copy.count), from.data(), from.size());
    }
    if (round.remote_combines) {
      static_cast<void>(synchronise({}));
    }
    for (const Combine& combine : round.combines) {
      internal::combine(type, op, memory.at(combine.target, combine.count),
                        memory.at(combine.left, combine.count),
                        memory.at(combine.right, combine.count), combine.count);
    }
    if (round.remote_combines) {
      static_cast<void>(synchronise({}));
    }
  }
}

}  // namespace superstep::bsp
