#include "bsp/shared_array.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/aligned.h"
#include "base/error.h"
#include "base/error_detail.h"
#include "bsp/shared_memory.h"
#include "bsp/world_state.h"

namespace superstep::bsp {

struct SharedBytes::State {
  std::shared_ptr<internal::SharedMapping> mapping;  // one per process and group
  std::int64_t num_bytes = 0;
};

namespace {

using internal::SharedMapping;

// The ranks that share one array, and who does what among them.
struct Group {
  std::vector<int> ranks;
  int creator = 0;  // makes the memory: the lowest rank
  int mapper = 0;   // maps it into this process: the lowest rank of the group in this process
  bool one_process = true;
};

Group find_group(const World& world, const internal::Topology& topology, Level level) {
  if (level == Level::kWorld && world.num_nodes() > 1) {
    throw InvalidArgument(
        "SharedBytes",
        fmt::format(
            "ranks of different nodes share no memory: got Level::kWorld with {} nodes, expected 1",
            world.num_nodes()));
  }
  Group group;
  const auto ranks = world.ranks_at(level);
  group.ranks.assign(ranks.begin(), ranks.end());
  group.creator = group.ranks.front();
  const auto process_of = [&](int rank) {
    return topology.process_of[static_cast<std::size_t>(rank)];
  };
  const auto is_mine = [&](int rank) { return process_of(rank) == world.process(); };
  group.mapper = *std::find_if(group.ranks.begin(), group.ranks.end(), is_mine);
  group.one_process = std::all_of(group.ranks.begin(), group.ranks.end(), is_mine);
  return group;
}

// What a step of the construction gave on one rank. Errors travel as text, so that every rank
// throws.
struct Outcome {
  std::string value;
  std::string error;
};

template <typename Step>
Outcome attempt(Step&& step) {
  try {
    return {step(), {}};
  } catch (const Error& error) {
    return {{}, std::string(detail_of(error))};
  }
}

// Every rank's value of a step, in rank order; throws the first error on every rank.
std::vector<std::string> agree(World::State& state, const Outcome& mine) {
  const char status = mine.error.empty() ? '+' : '-';
  std::vector<std::string> all =
      state.allgather_texts_raw(status + (mine.error.empty() ? mine.value : mine.error));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const char got = all[rank].front();
    all[rank].erase(0, 1);
    if (got == '-') {
      throw InvalidArgument("SharedBytes", fmt::format("rank {}: {}", rank, all[rank]));
    }
  }
  return all;
}

void require_sizes(World::State& state, const Group& group, std::int64_t mine) {
  const auto sizes = state.allgather_raw(static_cast<std::uint64_t>(mine));
  agree(state, attempt([&] {
          if (mine < 0) {
            throw InvalidArgument(
                "SharedBytes",
                fmt::format("size out of range: got {} bytes, expected at least 0", mine));
          }
          for (const int rank : group.ranks) {
            const std::uint64_t theirs = sizes[static_cast<std::size_t>(rank)];
            if (theirs != static_cast<std::uint64_t>(mine)) {
              throw InvalidArgument("SharedBytes",
                                    fmt::format("ranks that share an array give different sizes: "
                                                "got {} bytes on rank {}, expected {}",
                                                theirs, rank, mine));
            }
          }
          return std::string();
        }));
}

struct Unlinker {
  std::string name;
  ~Unlinker() { internal::unlink_shared(name); }
};

// The creator makes the memory, the mappers of other processes open it, then the name goes. Empty
// on ranks that are no mapper.
SharedMapping make_mapping(World::State& state, const Group& group, std::int64_t num_bytes) {
  SharedMapping mapping;
  Unlinker unlinker;
  const Outcome created = attempt([&] {
    if (state.rank == group.creator && (group.one_process || num_bytes == 0)) {
      mapping = SharedMapping::anonymous(num_bytes);
    } else if (state.rank == group.creator) {
      unlinker.name = internal::unique_shared_name();
      mapping = SharedMapping::create(unlinker.name, num_bytes);
    }
    return unlinker.name;
  });
  const std::string name = agree(state, created)[static_cast<std::size_t>(group.creator)];
  agree(state, attempt([&] {
          if (state.rank == group.mapper && state.rank != group.creator) {
            mapping = SharedMapping::open(name, num_bytes);
          }
          return std::string();
        }));
  return mapping;
}

}  // namespace

SharedBytes::SharedBytes(World& world, std::int64_t num_bytes, Level level)
    : state_(std::make_unique<State>()) {
  World::State& state = WorldAccess::state(world);
  const internal::CollectiveCall call(state, {.kind = internal::CallKind::kSharedBytes,
                                              .detail = static_cast<std::uint64_t>(level) + 1});
  const Group group = find_group(world, state.team->topology(), level);
  require_sizes(state, group, num_bytes);
  auto mapping =
      std::make_shared<SharedMapping>(make_mapping(state, group, padded_bytes(num_bytes)));
  const auto addresses = state.allgather_addresses(&mapping);
  const auto* mappers = static_cast<const std::shared_ptr<SharedMapping>*>(
      addresses[static_cast<std::size_t>(group.mapper)]);
  state_->mapping = state.rank == group.mapper ? mapping : *mappers;
  state_->num_bytes = num_bytes;
  // The mappers' pointers live until all have copied them.
  static_cast<void>(state.synchronise({}));
}

SharedBytes::SharedBytes(SharedBytes&&) noexcept = default;
SharedBytes& SharedBytes::operator=(SharedBytes&&) noexcept = default;
SharedBytes::~SharedBytes() = default;

std::byte* SharedBytes::data() const {
  return state_->mapping->data();
}
std::int64_t SharedBytes::size() const {
  return state_->num_bytes;
}

}  // namespace superstep::bsp
