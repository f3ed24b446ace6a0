#include "bsp/node_allreduce.h"

#include <algorithm>
#include <cstring>

#include <emmintrin.h>

#include "base/aligned.h"
#include "bsp/reduce.h"
#include "bsp/slot_tree.h"
#include "bsp/world_state.h"

namespace superstep::bsp::internal {

namespace {

// A chunk of each of two ranks, and the result, fit a second-level cache; many ranks take smaller
// ones, so that all of them together fit the third level and a small /dev/shm.
constexpr std::int64_t kLargestChunk = 128 * 1024;
constexpr std::int64_t kSmallestChunk = 16 * 1024;
constexpr std::int64_t kAllChunks = 2 * 1024 * 1024;

// Up to this many bytes read per rank, adding everything everywhere is cheaper than a second
// meeting.
constexpr std::int64_t kDirectBytes = 32 * 1024;

// From here on the result would push everything else out of the caches.
constexpr std::int64_t kStreamedBytes = 8 * 1024 * 1024;

std::int64_t chunk_bytes_for(int num_ranks) {
  return std::clamp(kAllChunks / num_ranks / kAlignmentBytes * kAlignmentBytes, kSmallestChunk,
                    kLargestChunk);
}

// Copies past the caches; the fence orders the stores before what follows.
void copy_streamed(std::byte* to, const std::byte* from, std::int64_t count) {
  constexpr std::int64_t kWidth = sizeof(__m128i);
  const auto misaligned = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(to) % kWidth);
  const std::int64_t head = std::min(count, misaligned == 0 ? 0 : kWidth - misaligned);
  std::memcpy(to, from, static_cast<std::size_t>(head));
  std::int64_t i = head;
  for (; i + kWidth <= count; i += kWidth) {
    const __m128i value = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm_stream_si128(reinterpret_cast<__m128i*>(to + i), value);
  }
  std::memcpy(to + i, from + i, static_cast<std::size_t>(count - i));
  _mm_sfence();
}

}  // namespace

struct NodeAllreduce::Call {
  const std::byte* in = nullptr;
  std::byte* out = nullptr;
  std::int64_t num_bytes = 0;
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
};

NodeAllreduce::NodeAllreduce(World& world)
    : rank_(world.rank()),
      size_(world.size()),
      chunk_bytes_(chunk_bytes_for(world.size())),
      staging_(world, staging_bytes(world.size())) {}

std::int64_t NodeAllreduce::staging_bytes(int num_ranks) {
  return chunk_bytes_for(num_ranks) * (2 * num_ranks + 2);
}

// Parts start on whole cache lines, so that owners do not write the same line.
NodeAllreduce::Range NodeAllreduce::part_of(int rank, std::int64_t chunk_length) const {
  const auto cut = [&](int index) {
    return index == size_ ? chunk_length
                          : chunk_length * index / size_ / kAlignmentBytes * kAlignmentBytes;
  };
  return {.begin = cut(rank), .length = cut(rank + 1) - cut(rank)};
}

std::byte* NodeAllreduce::staged(int rank, std::int64_t stage) const {
  return staging_.data() + chunk_bytes_ * (2 * rank + stage % 2);
}

std::byte* NodeAllreduce::result(std::int64_t stage) const {
  return staging_.data() + chunk_bytes_ * (2 * size_ + stage % 2);
}

// The sum over ranks [first_rank, last_rank) of the part that this rank owns; into `target`, or
// (null) over what the first rank laid out (nothing, if that is this rank), which nobody else
// reads.
const std::byte* NodeAllreduce::reduce(const Call& call, int first_rank, int last_rank,
                                       std::byte* target, std::int64_t stage, Range part,
                                       const std::byte* own) const {
  if (last_rank - first_rank == 1) {
    return first_rank == rank_ ? own : staged(first_rank, stage) + part.begin;
  }
  const int middle = split_point({first_rank, last_rank});
  const std::byte* left = reduce(call, first_rank, middle, nullptr, stage, part, own);
  const std::byte* right = reduce(call, middle, last_rank, nullptr, stage, part, own);
  if (target == nullptr) {
    target = staged(first_rank, stage) + part.begin;
  }
  combine(call.type, call.op, target, left, right, part.length / size_of(call.type));
  return target;
}

void NodeAllreduce::run(World::State& state, std::span<const std::byte> in,
                        std::span<std::byte> out, DataType type, ReduceOp op) {
  const Call call{.in = in.data(),
                  .out = out.data(),
                  .num_bytes = static_cast<std::int64_t>(in.size()),
                  .type = type,
                  .op = op};
  const bool is_short = call.num_bytes * size_ <= kDirectBytes && call.num_bytes <= chunk_bytes_;
  if (is_short) {
    run_direct(state, call);
  } else {
    run_chunks(state, call);
  }
}

void NodeAllreduce::run_direct(World::State& state, const Call& call) {
  const std::int64_t count = call.num_bytes / size_of(call.type);
  if (call.num_bytes > 0) {
    std::memcpy(staged(rank_, stage_), call.in, static_cast<std::size_t>(call.num_bytes));
  }
  static_cast<void>(state.synchronise({}));
  // Everybody reads the operands here, so intermediate sums need memory of their own.
  std::byte* scratch = state.scratch_bytes(call.num_bytes * size_);
  const auto sum = [&](auto&& self, SlotRange range, std::byte* target) -> const std::byte* {
    if (range.length() == 1) {
      return staged(range.begin, stage_);
    }
    const int middle = split_point(range);
    const std::byte* left =
        self(self, {range.begin, middle}, scratch + call.num_bytes * range.begin);
    const std::byte* right = self(self, {middle, range.end}, scratch + call.num_bytes * middle);
    combine(call.type, call.op, target, left, right, count);
    return target;
  };
  if (count > 0) {
    sum(sum, {0, size_}, call.out);
  }
  ++stage_;
  const auto bytes = static_cast<std::uint64_t>(call.num_bytes * (size_ - 1));
  state.traffic.bytes_sent += bytes;
  state.traffic.bytes_received += bytes;
}

void NodeAllreduce::run_chunks(World::State& state, const Call& call) {
  const std::int64_t num_chunks = (call.num_bytes + chunk_bytes_ - 1) / chunk_bytes_;
  const auto length_of = [&](std::int64_t chunk) {
    return std::min(chunk_bytes_, call.num_bytes - chunk * chunk_bytes_);
  };
  for (std::int64_t step = 0; step < num_chunks + 2; ++step, ++stage_) {
    if (step < num_chunks) {  // lay out what others own
      const std::byte* from = call.in + step * chunk_bytes_;
      const Range own = part_of(rank_, length_of(step));
      const std::int64_t after = own.begin + own.length;
      std::byte* to = staged(rank_, stage_);
      std::memcpy(to, from, static_cast<std::size_t>(own.begin));
      std::memcpy(to + after, from + after, static_cast<std::size_t>(length_of(step) - after));
    }
    if (step >= 1 && step <= num_chunks) {  // reduce what this rank owns
      const Range own = part_of(rank_, length_of(step - 1));
      if (own.length > 0) {
        reduce(call, 0, size_, result(stage_ - 1) + own.begin, stage_ - 1, own,
               call.in + (step - 1) * chunk_bytes_ + own.begin);
      }
      const auto others = static_cast<std::uint64_t>(length_of(step - 1) - own.length);
      const std::uint64_t traffic = others + static_cast<std::uint64_t>(own.length * (size_ - 1));
      state.traffic.bytes_sent += traffic;
      state.traffic.bytes_received += traffic;
    }
    if (step >= 2) {  // take the result
      std::byte* to = call.out + (step - 2) * chunk_bytes_;
      const std::int64_t length = length_of(step - 2);
      if (call.num_bytes >= kStreamedBytes) {
        copy_streamed(to, result(stage_ - 2), length);
      } else {
        std::memcpy(to, result(stage_ - 2), static_cast<std::size_t>(length));
      }
    }
    if (step < num_chunks + 1) {
      static_cast<void>(state.synchronise({}));
    }
  }
}

}  // namespace superstep::bsp::internal
