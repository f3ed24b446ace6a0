#include "paramserver/shard_guard.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/error.h"

namespace superstep::paramserver {

namespace {

constexpr std::int64_t kHalves = 2;

// Appends the hashes of whole blocks.
void hash_blocks(std::span<const float> values, std::vector<std::uint64_t>& hashes) {
  for (std::size_t begin = 0; begin < values.size(); begin += as_size(kBlockElements)) {
    const Hash128 hash = hash_span<float>(values.subspan(begin, as_size(kBlockElements)));
    hashes.insert(hashes.end(), {hash.low, hash.high});
  }
}

}  // namespace

ShardGuard::ShardGuard(bsp::World& world, const ParameterLayout& layout, std::int64_t every)
    : world_(world),
      layout_(layout),
      every_(every),
      shard_(layout.shard(world.rank(), world.size())) {}

void ShardGuard::note(std::int64_t step, std::span<const float> parameters,
                      std::span<const std::span<const float>> states) {
  Hashes mine;
  hash_blocks(parameters.subspan(as_size(shard_.begin), as_size(shard_.length())), mine);
  state_hashes_.resize(states.size());
  for (std::size_t i = 0; i < states.size(); ++i) {
    state_hashes_[i].clear();
    hash_blocks(states[i].first(as_size(shard_.length())), state_hashes_[i]);
  }
  const std::vector<std::int64_t> cuts = layout_.shard_cuts(world_.size());
  std::vector<std::int64_t> counts;
  for (std::size_t rank = 0; rank + 1 < cuts.size(); ++rank) {
    counts.push_back(kHalves * (cuts[rank + 1] - cuts[rank]) / kBlockElements);
  }
  parameter_hashes_.resize(as_size(kHalves * layout_.num_blocks()));
  world_.allgather(std::span<const std::uint64_t>(mine),
                   std::span<std::uint64_t>(parameter_hashes_), counts);
  guarded_step_ = step;
}

void ShardGuard::verify(std::span<const float> parameters,
                        std::span<const std::span<const float>> states) const {
  if (!is_guarding()) {
    return;
  }
  const std::span<const int> ranks = world_.ranks_at(bsp::Level::kNode);
  const auto index =
      static_cast<int>(std::find(ranks.begin(), ranks.end(), world_.rank()) - ranks.begin());
  verify_blocks(parameters, layout_.shard(index, static_cast<int>(ranks.size())));
  verify_states(states);
}

void ShardGuard::verify_own(std::span<const float> parameters,
                            std::span<const std::span<const float>> states) const {
  if (is_guarding()) {
    verify_blocks(parameters, shard_);
    verify_states(states);
  }
}

void ShardGuard::verify_blocks(std::span<const float> parameters, ElementRange range) const {
  const std::int64_t first = range.begin / kBlockElements;
  compare(
      "parameters", parameters.subspan(as_size(range.begin), as_size(range.length())), first,
      std::span<const std::uint64_t>(parameter_hashes_)
          .subspan(as_size(kHalves * first), as_size(kHalves * range.length() / kBlockElements)));
}

void ShardGuard::verify_states(std::span<const std::span<const float>> states) const {
  for (std::size_t i = 0; i < states.size(); ++i) {
    compare(fmt::format("optimizer state {}", i), states[i].first(as_size(shard_.length())),
            shard_.begin / kBlockElements, state_hashes_[i]);
  }
}

void ShardGuard::compare(std::string_view array, std::span<const float> values,
                         std::int64_t first_block, std::span<const std::uint64_t> expected) const {
  for (std::size_t i = 0; kHalves * i < expected.size(); ++i) {
    const Hash128 hash =
        hash_span<float>(values.subspan(i * as_size(kBlockElements), as_size(kBlockElements)));
    const Hash128 written{.low = expected[kHalves * i], .high = expected[kHalves * i + 1]};
    if (hash == written) {
      continue;
    }
    const std::int64_t block = first_block + static_cast<std::int64_t>(i);
    throw DataError(
        "ShardGuard", fmt::format("memory of {}", world_.host_of(world_.rank())), -1,
        fmt::format("rank {} found {} changed since update {}, where nobody wrote: block {} "
                    "(elements {} to {}{}): got {}, expected {}. Suspect the memory of this "
                    "machine; continue from the newest checkpoint",
                    world_.rank(), array, guarded_step_, block, block * kBlockElements,
                    (block + 1) * kBlockElements - 1, entry_at(block), to_text(hash),
                    to_text(written)),
        ExitCode::kCorruption);
  }
}

// ", in dense1/weight and 2 more"
std::string ShardGuard::entry_at(std::int64_t block) const {
  const std::int64_t begin = block * kBlockElements;
  const std::int64_t end = begin + kBlockElements;
  std::string first;
  int more = -1;
  for (const LayoutEntry& entry : layout_.entries()) {
    if (entry.offset < end && entry.offset + entry.num_elements() > begin) {
      first = first.empty() ? entry.name : first;
      ++more;
    }
  }
  return first.empty() ? "" : ", in " + first + (more > 0 ? fmt::format(" and {} more", more) : "");
}

}  // namespace superstep::paramserver
