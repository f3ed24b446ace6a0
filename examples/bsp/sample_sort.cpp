// Sample sort with regular sampling (Shi, Schaeffer 1992; Gerbessiotis, Valiant 1994): sort the own
// block, share p regular samples, cut the block at p - 1 splitters of all samples, send the pieces
// to their ranks, merge what came.
//
// Cost: (n/p) log(n/p) + p^2 log p + (n/p) log p operations, h = p^2 + at most 2 n/p keys, 2 l and
// an empty synchronisation.
//
//   mpirun -n 2 sample_sort --elements 1000000
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/philox.h"
#include "bsp/coarray.h"
#include "bsp/message_record.h"
#include "bsp/partition.h"
#include "bsp/queue.h"
#include "examples/bsp/example.h"

namespace {

using superstep::bsp::Coarray;
using superstep::bsp::Partition;
using superstep::bsp::ProbePattern;
using superstep::bsp::Queue;
using superstep::bsp::ReduceOp;
using superstep::bsp::World;
using namespace superstep::examples;  // NOLINT(google-build-using-namespace): the frame

using Keys = std::vector<std::uint64_t>;
constexpr std::int64_t kMessageBytes =
    superstep::bsp::internal::kStreamLengthBytes + superstep::bsp::internal::kRecordBytes;

std::uint64_t key_at(std::int64_t i) {
  const auto block = superstep::philox4x32_10(
      {static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), 0, 0}, {2'026, 7});
  return std::uint64_t{block[0]} << 32 | block[1];
}

double sort_operations(std::size_t count) {
  return count < 2 ? 1.0 : static_cast<double>(count) * std::log2(static_cast<double>(count));
}

// `begins` are where the sorted runs of `keys` begin, and its size.
void merge_runs(Keys& keys, std::vector<std::size_t> begins) {
  Keys merged(keys.size());
  while (begins.size() > 2) {
    std::vector<std::size_t> next{0};
    for (std::size_t run = 0; run + 1 < begins.size(); run += 2) {
      const auto at = [&](std::size_t i) {
        return keys.begin() + static_cast<std::ptrdiff_t>(begins[std::min(i, begins.size() - 1)]);
      };
      std::merge(at(run), at(run + 1), at(run + 1), at(run + 2),
                 merged.begin() + static_cast<std::ptrdiff_t>(begins[run]));
      next.push_back(begins[std::min(run + 2, begins.size() - 1)]);
    }
    std::swap(keys, merged);
    begins = std::move(next);
  }
}

class SampleSort {
 public:
  SampleSort(World& world, Keys block)
      : world_(world),
        block_(std::move(block)),
        samples_(world, std::int64_t{world.size()} * world.size()),
        pieces_(world) {}

  void run(HCounter& counter) {
    sort_block();
    send_samples();
    world_.sync();
    counter.end_superstep();
    send_pieces();
    world_.sync();
    counter.end_superstep();
    merge_pieces();
    world_.sync();
    counter.end_superstep();
  }

  const Keys& sorted() const { return sorted_; }
  std::int64_t keys_sent() const { return keys_sent_; }
  std::int64_t keys_received() const { return keys_received_; }

 private:
  void sort_block() {
    sorted_ = block_;
    std::sort(sorted_.begin(), sorted_.end());
  }

  void send_samples() {
    const auto p = static_cast<std::size_t>(world_.size());
    Keys mine;
    for (std::size_t i = 0; i < p; ++i) {
      mine.push_back(sorted_.empty() ? 0 : sorted_[i * sorted_.size() / p]);
    }
    const std::int64_t begin = std::int64_t{world_.rank()} * world_.size();
    for (int to = 0; to < world_.size(); ++to) {
      samples_(to)[{begin, begin + world_.size()}] = std::span<const std::uint64_t>(mine);
    }
  }

  void send_pieces() {
    Keys samples(samples_.local().begin(), samples_.local().end());
    std::sort(samples.begin(), samples.end());
    auto begin = sorted_.cbegin();
    keys_sent_ = 0;
    for (int to = 0; to < world_.size(); ++to) {
      const auto next = static_cast<std::size_t>(to + 1) * static_cast<std::size_t>(world_.size());
      const auto end = to + 1 == world_.size()
                           ? sorted_.cend()
                           : std::lower_bound(begin, sorted_.cend(), samples[next]);
      pieces_.send(to, std::span<const std::uint64_t>(begin, end));
      keys_sent_ += to == world_.rank() ? 0 : end - begin;
      begin = end;
    }
  }

  void merge_pieces() {
    sorted_.clear();
    keys_received_ = 0;
    std::vector<std::size_t> begins{0};
    for (const Queue<std::uint64_t>::Message piece : pieces_) {
      sorted_.insert(sorted_.end(), piece.values.begin(), piece.values.end());
      begins.push_back(sorted_.size());
      keys_received_ +=
          piece.source == world_.rank() ? 0 : static_cast<std::int64_t>(piece.values.size());
    }
    merge_runs(sorted_, std::move(begins));
  }

  World& world_;
  Keys block_;
  Keys sorted_;
  Coarray<std::uint64_t> samples_;  // those of rank r at r * p
  Queue<std::uint64_t> pieces_;
  std::int64_t keys_sent_ = 0;
  std::int64_t keys_received_ = 0;
};

// Ascending on every rank and from rank to rank, and the same keys as before.
void require_sorted(World& world, const Keys& sorted, std::int64_t n) {
  SUPERSTEP_CHECK(std::is_sorted(sorted.begin(), sorted.end()), "keys of rank", world.rank());
  const auto firsts = world.allgather(sorted.empty() ? std::uint64_t{0} : sorted.front());
  const auto lasts = world.allgather(sorted.empty() ? std::uint64_t{0} : sorted.back());
  const auto sizes = world.allgather(static_cast<std::int64_t>(sorted.size()));
  std::uint64_t largest = 0;
  std::int64_t total = 0;
  for (std::size_t rank = 0; rank < sizes.size(); ++rank) {
    SUPERSTEP_CHECK(sizes[rank] == 0 || firsts[rank] >= largest, "first key of rank", rank);
    largest = sizes[rank] == 0 ? largest : lasts[rank];
    total += sizes[rank];
  }
  // Sums of the keys and of their squares, modulo 2^64, tell other multisets apart.
  std::vector<std::uint64_t> sums(4, 0);
  for (const std::uint64_t key : sorted) {
    sums[0] += key;
    sums[1] += key * key;
  }
  const Partition blocks = Partition::balanced(n, world.size());
  for (std::int64_t i = 0; i < blocks.count(world.rank()); ++i) {
    const std::uint64_t key = key_at(blocks.global(world.rank(), i));
    sums[2] += key;
    sums[3] += key * key;
  }
  world.allreduce(std::span<const std::uint64_t>(sums), std::span(sums), ReduceOp::kSum);
  SUPERSTEP_CHECK(total == n && sums[0] == sums[2] && sums[1] == sums[3], "keys were lost", total,
                  n);
}

double sort_rate(World& world, const Keys& block) {
  const Keys part(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(block.size() / 4));
  Keys copy;
  return superstep::bsp::probe_rate(world, sort_operations(part.size()), [&] {
    copy = part;
    std::sort(copy.begin(), copy.end());
  });
}

// Keys merged once per second, of two runs.
double merge_rate(World& world, const Keys& block) {
  Keys first(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(block.size() / 2));
  Keys second(block.begin() + static_cast<std::ptrdiff_t>(block.size() / 2), block.end());
  std::sort(first.begin(), first.end());
  std::sort(second.begin(), second.end());
  Keys both;
  return superstep::bsp::probe_rate(world, static_cast<double>(block.size()) + 1.0, [&] {
    both.clear();
    both.insert(both.end(), first.begin(), first.end());
    both.insert(both.end(), second.begin(), second.end());
    merge_runs(both, {0, first.size(), both.size()});
  });
}

void run(World& world, const Options& options) {
  const std::int64_t n = options.elements;
  const int p = world.size();
  const Partition blocks = Partition::balanced(n, p);
  Keys block;
  for (std::int64_t i = 0; i < blocks.count(world.rank()); ++i) {
    block.push_back(key_at(blocks.global(world.rank(), i)));
  }
  const double sorts = sort_rate(world, block);
  const double merges = merge_rate(world, block);
  const double local_operations = sort_operations(block.size());
  SampleSort sort(world, std::move(block));
  const Measurement measured =
      measure(world, options.rounds, [&](HCounter& counter) { sort.run(counter); });
  require_sorted(world, sort.sorted(), n);

  const std::int64_t others = p - 1;
  const std::int64_t keys =
      world.allreduce(std::max(sort.keys_sent(), sort.keys_received()), ReduceOp::kMax);
  const double merged = world.allreduce(static_cast<double>(sort.sorted().size()), ReduceOp::kMax);
  const double levels = std::bit_width(static_cast<unsigned>(others));
  Prediction prediction;
  prediction.add({.work_seconds = world.allreduce(local_operations, ReduceOp::kMax) / sorts,
                  .h_bytes = others * (kMessageBytes + 8 * p)});
  prediction.add({.work_seconds = sort_operations(static_cast<std::size_t>(p) * p) / sorts,
                  .h_bytes = others * kMessageBytes + 8 * keys});
  prediction.add({.work_seconds = merged * std::max(levels, 1.0) / merges, .h_bytes = 0});
  const std::int64_t largest = std::max<std::int64_t>(8 * keys, 4'096);
  const auto machine = superstep::bsp::probe(
      world,
      {.pattern = ProbePattern::kSends, .smallest_bytes = largest / 64, .largest_bytes = largest});
  report(world, options, {"sample_sort", n, prediction, measured, machine});
}

}  // namespace

int main(int argc, char** argv) {
  return run_example(argc, argv, 1'000'000, run);
}
