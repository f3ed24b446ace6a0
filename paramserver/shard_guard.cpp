#include "paramserver/shard_guard.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"
#include "paramserver/checkpoint_protocol.h"

namespace superstep::paramserver {

namespace {

constexpr std::int64_t kHalves = 2;

Hash128 hash_at(std::span<const std::uint64_t> hashes, std::size_t block) {
  return {.low = hashes[kHalves * block], .high = hashes[kHalves * block + 1]};
}

std::string state_name(std::size_t index) {
  return fmt::format("optimizer state {}", index);
}

}  // namespace

ShardGuard::ShardGuard(bsp::World& world, const ParameterLayout& layout, std::int64_t every)
    : world_(world),
      layout_(layout),
      every_(every),
      shard_(layout.shard(world.rank(), world.size())) {}

void ShardGuard::note(std::int64_t step, std::span<const float> parameters,
                      std::span<const std::span<const float>> states) {
  const Hashes mine =
      hash_blocks(parameters.subspan(as_size(shard_.begin), as_size(shard_.length())));
  state_hashes_.clear();
  for (const std::span<const float> state : states) {
    state_hashes_.push_back(hash_blocks(state.first(as_size(shard_.length()))));
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
  compare("parameters", parameters.subspan(as_size(range.begin), as_size(range.length())),
          range.begin / kBlockElements, hashes_of(range));
}

std::span<const std::uint64_t> ShardGuard::hashes_of(ElementRange range) const {
  return std::span<const std::uint64_t>(parameter_hashes_)
      .subspan(as_size(kHalves * range.begin / kBlockElements),
               as_size(kHalves * range.length() / kBlockElements));
}

void ShardGuard::verify_states(std::span<const std::span<const float>> states) const {
  for (std::size_t i = 0; i < states.size(); ++i) {
    compare(state_name(i), states[i].first(as_size(shard_.length())), shard_.begin / kBlockElements,
            state_hashes_[i]);
  }
}

ShardGuard::HashCheck ShardGuard::own_parameters_check() const {
  if (!is_guarding()) {
    return nullptr;
  }
  const std::span<const std::uint64_t> hashes = hashes_of(shard_);
  return check_of({.array = "parameters",
                   .first_block = shard_.begin / kBlockElements,
                   .step = guarded_step_,
                   .hashes = {hashes.begin(), hashes.end()}});
}

ShardGuard::HashCheck ShardGuard::own_state_check(std::size_t index) const {
  if (!is_guarding()) {
    return nullptr;
  }
  return check_of({.array = state_name(index),
                   .first_block = shard_.begin / kBlockElements,
                   .step = guarded_step_,
                   .hashes = state_hashes_[index]});
}

// What the function knows is its own: the guard's memory changes while it waits.
ShardGuard::HashCheck ShardGuard::check_of(Expected expected) const {
  return [this, expected = std::move(expected)](std::span<const std::uint64_t> got) {
    SUPERSTEP_CHECK(got.size() == expected.hashes.size(), "hashes of", expected.array, got.size(),
                    "expected", expected.hashes.size());
    for (std::size_t i = 0; kHalves * i < got.size(); ++i) {
      const Hash128 hash = hash_at(got, i);
      const Hash128 written = hash_at(expected.hashes, i);
      if (hash != written) {
        fail(expected.array, expected.first_block + static_cast<std::int64_t>(i), expected.step,
             hash, written);
      }
    }
  };
}

void ShardGuard::compare(std::string_view array, std::span<const float> values,
                         std::int64_t first_block, std::span<const std::uint64_t> expected) const {
  for (std::size_t i = 0; kHalves * i < expected.size(); ++i) {
    const Hash128 hash =
        hash_span<float>(values.subspan(i * as_size(kBlockElements), as_size(kBlockElements)));
    const Hash128 written = hash_at(expected, i);
    if (hash == written) {
      continue;
    }
    fail(array, first_block + static_cast<std::int64_t>(i), guarded_step_, hash, written);
  }
}

void ShardGuard::fail(std::string_view array, std::int64_t block, std::int64_t step,
                      const Hash128& got, const Hash128& written) const {
  throw DataError(
      "ShardGuard", fmt::format("memory of {}", world_.host_of(world_.rank())), -1,
      fmt::format("rank {} found {} changed since update {}, where nobody wrote: block {} "
                  "(elements {} to {}{}): got {}, expected {}. Suspect the memory of this "
                  "machine; continue from the newest checkpoint",
                  world_.rank(), array, step, block, block * kBlockElements,
                  (block + 1) * kBlockElements - 1, entry_at(block), to_text(got),
                  to_text(written)),
      ExitCode::kCorruption);
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
