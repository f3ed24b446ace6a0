#include "paramserver/shard_guard.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"

namespace superstep::paramserver {

namespace {

constexpr std::int64_t kHalves = 2;

Hash128 hash_at(std::span<const std::uint64_t> hashes, std::size_t block) {
  return {.low = hashes[kHalves * block], .high = hashes[kHalves * block + 1]};
}

constexpr int kParameters = -1;  // an array that is no optimizer state

std::string name_of_array(int array) {
  return array == kParameters ? "parameters" : fmt::format("optimizer state {}", array);
}

void put_hash(std::vector<std::uint64_t>& hashes, std::int64_t begin,
              std::span<const float> block) {
  const Hash128 hash = hash_span<float>(block);
  const std::size_t at = as_size(kHalves * begin / kBlockElements);
  hashes[at] = hash.low;
  hashes[at + 1] = hash.high;
}

std::span<const float> block_of(std::span<const float> values, std::int64_t begin) {
  return values.subspan(as_size(begin), as_size(kBlockElements));
}

}  // namespace

ShardGuard::ShardGuard(bsp::World& world, const ParameterLayout& layout, std::int64_t every,
                       std::vector<std::int64_t> cuts)
    : world_(world),
      layout_(layout),
      every_(every),
      cuts_(cuts.empty() ? layout.shard_cuts(world.size()) : std::move(cuts)),
      shard_{cuts_[as_size(world.rank())], cuts_[as_size(world.rank()) + 1]} {}

void ShardGuard::note(std::int64_t step, std::span<const float> parameters,
                      std::span<const std::span<const float>> states) {
  begin_note(states.size());
  for (std::int64_t begin = shard_.begin; begin < shard_.end; begin += kBlockElements) {
    note_block(begin, parameters, states);
  }
  end_note(step);
}

void ShardGuard::begin_note(std::size_t num_states) {
  parameter_hashes_.resize(as_size(kHalves * layout_.num_blocks()));
  state_hashes_.resize(num_states);
  for (Hashes& hashes : state_hashes_) {
    hashes.resize(as_size(kHalves * shard_.length() / kBlockElements));
  }
}

void ShardGuard::note_block(std::int64_t begin, std::span<const float> parameters,
                            std::span<const std::span<const float>> states) {
  put_hash(parameter_hashes_, begin, block_of(parameters, begin));
  for (std::size_t i = 0; i < states.size(); ++i) {
    put_hash(state_hashes_[i], begin - shard_.begin, block_of(states[i], begin - shard_.begin));
  }
}

// On one node each rank verifies what it owns, and nobody asks for the others' hashes.
void ShardGuard::end_note(std::int64_t step) {
  guarded_step_ = step;
  if (world_.num_nodes() == 1) {
    return;
  }
  const std::span<const std::uint64_t> own = hashes_of(shard_);
  const Hashes mine(own.begin(), own.end());
  std::vector<std::int64_t> counts;
  for (std::size_t rank = 0; rank + 1 < cuts_.size(); ++rank) {
    counts.push_back(kHalves * (cuts_[rank + 1] - cuts_[rank]) / kBlockElements);
  }
  world_.allgather(std::span<const std::uint64_t>(mine),
                   std::span<std::uint64_t>(parameter_hashes_), counts);
}

void ShardGuard::verify(std::span<const float> parameters,
                        std::span<const std::span<const float>> states) const {
  if (!is_guarding()) {
    return;
  }
  const std::span<const int> ranks = world_.ranks_at(bsp::Level::kNode);
  const auto index =
      static_cast<int>(std::find(ranks.begin(), ranks.end(), world_.rank()) - ranks.begin());
  const ElementRange share =
      world_.num_nodes() == 1 ? shard_ : layout_.shard(index, static_cast<int>(ranks.size()));
  for (std::int64_t begin = share.begin; begin < share.end; begin += kBlockElements) {
    verify_parameters(begin, parameters);
  }
  for (std::int64_t begin = shard_.begin; begin < shard_.end; begin += kBlockElements) {
    verify_states(begin, states);
  }
}

void ShardGuard::verify_block(std::int64_t begin, std::span<const float> parameters,
                              std::span<const std::span<const float>> states) const {
  if (is_guarding()) {
    verify_parameters(begin, parameters);
    verify_states(begin, states);
  }
}

void ShardGuard::verify_parameters(std::int64_t begin, std::span<const float> parameters) const {
  compare(kParameters, begin, block_of(parameters, begin),
          hash_at(parameter_hashes_, as_size(begin / kBlockElements)));
}

void ShardGuard::verify_states(std::int64_t begin,
                               std::span<const std::span<const float>> states) const {
  const std::int64_t local = begin - shard_.begin;
  for (std::size_t i = 0; i < states.size(); ++i) {
    compare(static_cast<int>(i), begin, block_of(states[i], local),
            hash_at(state_hashes_[i], as_size(local / kBlockElements)));
  }
}

std::span<const std::uint64_t> ShardGuard::hashes_of(ElementRange range) const {
  return std::span<const std::uint64_t>(parameter_hashes_)
      .subspan(as_size(kHalves * range.begin / kBlockElements),
               as_size(kHalves * range.length() / kBlockElements));
}

ShardGuard::HashCheck ShardGuard::own_parameters_check() const {
  if (!is_guarding()) {
    return nullptr;
  }
  const std::span<const std::uint64_t> hashes = hashes_of(shard_);
  return check_of({.array = kParameters,
                   .first_block = shard_.begin / kBlockElements,
                   .step = guarded_step_,
                   .hashes = {hashes.begin(), hashes.end()}});
}

ShardGuard::HashCheck ShardGuard::own_state_check(std::size_t index) const {
  if (!is_guarding()) {
    return nullptr;
  }
  return check_of({.array = static_cast<int>(index),
                   .first_block = shard_.begin / kBlockElements,
                   .step = guarded_step_,
                   .hashes = state_hashes_[index]});
}

// What the function knows is its own: the guard's memory changes while it waits.
ShardGuard::HashCheck ShardGuard::check_of(Expected expected) const {
  return [this, expected = std::move(expected)](std::span<const std::uint64_t> got) {
    SUPERSTEP_CHECK(got.size() == expected.hashes.size(), "hashes of",
                    name_of_array(expected.array), got.size(), "expected", expected.hashes.size());
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

void ShardGuard::compare(int array, std::int64_t begin, std::span<const float> block,
                         const Hash128& written) const {
  const Hash128 hash = hash_span<float>(block);
  if (hash != written) {
    fail(array, begin / kBlockElements, guarded_step_, hash, written);
  }
}

void ShardGuard::fail(int array, std::int64_t block, std::int64_t step, const Hash128& got,
                      const Hash128& written) const {
  throw DataError(
      "ShardGuard", fmt::format("memory of {}", world_.host_of(world_.rank())), -1,
      fmt::format("rank {} found {} changed since update {}, where nobody wrote: block {} "
                  "(elements {} to {}{}): got {}, expected {}. Suspect the memory of this "
                  "machine; continue from the newest checkpoint",
                  world_.rank(), name_of_array(array), step, block, block * kBlockElements,
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
