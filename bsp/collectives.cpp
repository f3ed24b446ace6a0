// The collectives of World: each compiles its Schedule once per shape and executes it in place.
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/checked_cast.h"
#include "base/error.h"
#include "bsp/message_checker.h"
#include "bsp/reduce.h"
#include "bsp/schedule.h"
#include "bsp/world_state.h"

namespace superstep::bsp {

namespace {

using internal::CallKind;
using internal::CollectiveCall;
using internal::MemoryPiece;

constexpr std::size_t kCachedPlans = 16;

std::int64_t count_of(std::span<const std::byte> bytes, DataType type) {
  return checked_cast<std::int64_t>(bytes.size()) / internal::size_of(type);
}

// Inputs are never written: no schedule has a transfer or a combine into them (see prove()).
std::byte* input_data(std::span<const std::byte> bytes) {
  return const_cast<std::byte*>(bytes.data());
}

void require_counts(const char* where, std::span<const std::int64_t> counts, int num_ranks) {
  if (std::cmp_not_equal(counts.size(), num_ranks)) {
    throw InvalidArgument(where,
                          fmt::format("one count per rank is needed: got {} counts, expected {}",
                                      counts.size(), num_ranks));
  }
  for (std::size_t rank = 0; rank < counts.size(); ++rank) {
    if (counts[rank] < 0) {
      throw InvalidArgument(
          where, fmt::format("count of rank {} out of range: got {}, expected at least 0", rank,
                             counts[rank]));
    }
  }
}

void require_elements(const char* where, const char* name, std::int64_t got,
                      std::int64_t expected) {
  if (got != expected) {
    throw InvalidArgument(where, fmt::format("{} has the wrong size: got {} elements, expected {}",
                                             name, got, expected));
  }
}

void require_root(const char* where, int root, int num_ranks) {
  if (root < 0 || root >= num_ranks) {
    throw InvalidArgument(
        where, fmt::format("root out of range: got {}, expected 0 to {}", root, num_ranks - 1));
  }
}

std::int64_t sum_of(std::span<const std::int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

// The cached plan of this shape; `compile` gives {schedule, offset of this rank's result}.
template <typename Compile>
const World::State::CachedPlan& plan_for(World::State& state, internal::PlanKey key,
                                         Compile&& compile) {
  for (const auto& cached : state.plans) {
    if (cached->key == key) {
      return *cached;
    }
  }
  const std::pair<Schedule, std::int64_t> compiled = compile();
  auto fresh = std::make_unique<World::State::CachedPlan>(World::State::CachedPlan{
      std::move(key), internal::plan_of_rank(compiled.first, state.rank), compiled.second});
  if (state.plans.size() < kCachedPlans) {
    return *state.plans.emplace_back(std::move(fresh));
  }
  auto& oldest = state.plans[state.next_plan++ % kCachedPlans];
  oldest = std::move(fresh);
  return *oldest;
}

}  // namespace

void World::broadcast_bytes(std::span<std::byte> data, DataType type, int root, CallSite site) {
  State& state = *state_;
  require_root("World::broadcast", root, size());
  const std::int64_t n = count_of(data, type);
  const CollectiveCall call(state, {.kind = CallKind::kBroadcast,
                                    .type = static_cast<std::uint8_t>(type),
                                    .root = root,
                                    .count = n,
                                    .site = site});
  const auto& plan = plan_for(state, {CallKind::kBroadcast, root, {n}}, [&] {
    return std::pair(broadcast_schedule(size(), root, n), std::int64_t{0});
  });
  const MemoryPiece piece{0, n, data.data()};
  state.execute(plan.plan, {&piece, 1}, type, ReduceOp::kSum);
}

void World::allreduce_bytes(std::span<const std::byte> in, std::span<std::byte> out, DataType type,
                            ReduceOp op, CallSite site) {
  State& state = *state_;
  internal::require_reducible(type, op);
  const std::int64_t n = count_of(in, type);
  require_elements("World::allreduce", "out", count_of(out, type), n);
  const bool shares_memory = size() > 1 && num_nodes() == 1;
  if (shares_memory && state.node_allreduce == nullptr) {
    state.node_allreduce = std::make_unique<internal::NodeAllreduce>(*this);
  }
  const CollectiveCall call(state, {.kind = CallKind::kAllreduce,
                                    .type = static_cast<std::uint8_t>(type),
                                    .op = static_cast<std::uint8_t>(op),
                                    .count = n,
                                    .site = site});
  if (shares_memory) {
    state.tell_outgoing(in, -1);
    state.node_allreduce->run(state, in, out, type, op);
    return;
  }
  const AllreduceAlgorithm flat = allreduce_algorithm(size(), n);
  // Few elements take fewer rounds when nodes are ignored.
  const bool over_levels =
      num_nodes() > 1 && num_nodes() < size() &&
      (flat == AllreduceAlgorithm::kShards || flat == AllreduceAlgorithm::kHalvingDoubling);
  const auto& plan = plan_for(state, {CallKind::kAllreduce, 0, {n}}, [&] {
    AllreducePlan compiled =
        over_levels ? hierarchical_allreduce_schedule(state.team->topology().node_of, n)
                    : allreduce_schedule(flat, size(), n);
    SUPERSTEP_CHECK(compiled.result_offset == n, "out follows in");
    return std::pair(std::move(compiled.schedule), compiled.result_offset);
  });
  const std::int64_t rest = plan.plan.extent - 2 * n;
  const std::array<MemoryPiece, 3> pieces{
      {{0, n, input_data(in)},
       {n, n, out.data()},
       {2 * n, rest, state.scratch_bytes(rest * internal::size_of(type))}}};
  state.execute(plan.plan, pieces, type, op);
}

void World::reduce_scatter_bytes(std::span<const std::byte> in, std::span<std::byte> out,
                                 std::span<const std::int64_t> counts, DataType type, ReduceOp op,
                                 CallSite site) {
  State& state = *state_;
  constexpr const char* kWhere = "World::reduce_scatter";
  internal::require_reducible(type, op);
  require_counts(kWhere, counts, size());
  const std::int64_t n = sum_of(counts);
  const std::int64_t mine = counts[static_cast<std::size_t>(rank())];
  require_elements(kWhere, "in", count_of(in, type), n);
  require_elements(kWhere, "out", count_of(out, type), mine);
  const CollectiveCall call(state, {.kind = CallKind::kReduceScatter,
                                    .type = static_cast<std::uint8_t>(type),
                                    .op = static_cast<std::uint8_t>(op),
                                    .count = n,
                                    .detail = internal::hash_counts(counts),
                                    .site = site});
  const auto& plan =
      plan_for(state, {CallKind::kReduceScatter, 0, {counts.begin(), counts.end()}}, [&] {
        ReduceScatterPlan compiled = reduce_scatter_schedule(counts);
        const std::int64_t offset = compiled.result_offsets[static_cast<std::size_t>(rank())];
        return std::pair(std::move(compiled.schedule), offset);
      });
  SUPERSTEP_CHECK(plan.result_offset == n, "out follows in");
  const std::int64_t rest = plan.plan.extent - n - mine;
  const std::array<MemoryPiece, 3> pieces{
      {{0, n, input_data(in)},
       {n, mine, out.data()},
       {n + mine, rest, state.scratch_bytes(rest * internal::size_of(type))}}};
  state.execute(plan.plan, pieces, type, op);
}

void World::allgather_bytes(std::span<const std::byte> in, std::span<std::byte> out,
                            std::span<const std::int64_t> counts, DataType type, CallSite site) {
  State& state = *state_;
  constexpr const char* kWhere = "World::allgather";
  require_counts(kWhere, counts, size());
  const std::int64_t n = sum_of(counts);
  require_elements(kWhere, "in", count_of(in, type), counts[static_cast<std::size_t>(rank())]);
  require_elements(kWhere, "out", count_of(out, type), n);
  const CollectiveCall call(state, {.kind = CallKind::kAllgather,
                                    .type = static_cast<std::uint8_t>(type),
                                    .count = n,
                                    .detail = internal::hash_counts(counts),
                                    .site = site});
  const auto& plan =
      plan_for(state, {CallKind::kAllgather, 0, {counts.begin(), counts.end()}}, [&] {
        return std::pair(allgather_schedule(counts),
                         sum_of(counts.first(static_cast<std::size_t>(rank()))));
      });
  if (!in.empty()) {
    std::memmove(out.data() + plan.result_offset * internal::size_of(type), in.data(), in.size());
  }
  const MemoryPiece piece{0, n, out.data()};
  state.execute(plan.plan, {&piece, 1}, type, ReduceOp::kSum);
}

void World::gather_bytes(std::span<const std::byte> in, std::span<std::byte> out,
                         std::span<const std::int64_t> counts, DataType type, int root,
                         CallSite site) {
  State& state = *state_;
  constexpr const char* kWhere = "World::gather";
  require_root(kWhere, root, size());
  require_counts(kWhere, counts, size());
  const std::int64_t n = sum_of(counts);
  const std::int64_t mine = counts[static_cast<std::size_t>(rank())];
  require_elements(kWhere, "in", count_of(in, type), mine);
  if (rank() == root) {
    require_elements(kWhere, "out", count_of(out, type), n);
  }
  const CollectiveCall call(state, {.kind = CallKind::kGather,
                                    .type = static_cast<std::uint8_t>(type),
                                    .root = root,
                                    .count = n,
                                    .detail = internal::hash_counts(counts),
                                    .site = site});
  const auto& plan =
      plan_for(state, {CallKind::kGather, root, {counts.begin(), counts.end()}},
               [&] { return std::pair(gather_schedule(counts, root), std::int64_t{0}); });
  const std::array<MemoryPiece, 2> pieces{{{0, mine, input_data(in)}, {mine, n, out.data()}}};
  state.execute(plan.plan, std::span(pieces).first(rank() == root ? 2 : 1), type, ReduceOp::kSum);
}

void World::alltoallv_bytes(std::span<const std::byte> in,
                            std::span<const std::int64_t> send_counts, std::span<std::byte> out,
                            std::span<const std::int64_t> receive_counts, DataType type,
                            CallSite site) {
  State& state = *state_;
  constexpr const char* kWhere = "World::alltoallv";
  require_counts(kWhere, send_counts, size());
  require_counts(kWhere, receive_counts, size());
  require_elements(kWhere, "in", count_of(in, type), sum_of(send_counts));
  require_elements(kWhere, "out", count_of(out, type), sum_of(receive_counts));
  const CollectiveCall call(
      state, {.kind = CallKind::kAlltoallv, .type = static_cast<std::uint8_t>(type), .site = site});
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  for (int peer = 0; peer < size(); ++peer) {
    const auto i = static_cast<std::size_t>(peer);
    const auto send_bytes = static_cast<std::size_t>(send_counts[i] * internal::size_of(type));
    const auto receive_bytes =
        static_cast<std::size_t>(receive_counts[i] * internal::size_of(type));
    outgoing.push_back({peer, in.first(send_bytes)});
    incoming.push_back({peer, out.first(receive_bytes)});
    in = in.subspan(send_bytes);
    out = out.subspan(receive_bytes);
  }
  internal::check_counts(kWhere, state, outgoing, incoming, site);
  state.exchange(outgoing, incoming);
}

}  // namespace superstep::bsp
