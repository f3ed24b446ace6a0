// PageRank (Brin, Page 1998), the example of Hama and Pregel: vertices belong to ranks in cyclic
// order; in every superstep each vertex sends its rank over its out-degree to its neighbours.
// Messages to one vertex are combined on the way, the mass of vertices without neighbours and the
// change of a superstep are aggregated, and the ranks vote to halt when the change is small.
//
// Cost of a superstep for e edges: (e/p) log(e/p) operations for combining, h = at most e/p entries
// of 16 bytes, l.
//
//   mpirun -n 2 pagerank --elements 1000000                  # edges
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/philox.h"
#include "bsp/aggregator.h"
#include "bsp/combining_queue.h"
#include "bsp/message_record.h"
#include "bsp/partition.h"
#include "examples/bsp/example.h"

namespace {

using superstep::bsp::Aggregator;
using superstep::bsp::CombiningQueue;
using superstep::bsp::Partition;
using superstep::bsp::ProbePattern;
using superstep::bsp::ReduceOp;
using superstep::bsp::World;
using namespace superstep::examples;  // NOLINT(google-build-using-namespace): the frame

constexpr double kDamping = 0.85;
constexpr double kTolerance = 1e-9;  // change of all ranks' sum
constexpr std::int64_t kMeanDegree = 8;
constexpr std::int64_t kRecordBytes = superstep::bsp::internal::kRecordBytes;
constexpr std::int64_t kLengthBytes = superstep::bsp::internal::kStreamLengthBytes;

superstep::PhiloxBlock random_block(std::int64_t vertex, std::int64_t edge) {
  return superstep::philox4x32_10(
      {static_cast<std::uint32_t>(vertex), static_cast<std::uint32_t>(vertex >> 32),
       static_cast<std::uint32_t>(edge), 0},
      {1'998, 3});
}

// Every 97th vertex has no neighbours, the others 1 to 15.
std::int64_t degree_of(std::int64_t vertex) {
  return vertex % 97 == 0 ? 0 : 1 + random_block(vertex, -1)[0] % (2 * kMeanDegree - 1);
}
std::int64_t neighbour(std::int64_t vertex, std::int64_t edge, std::int64_t num_vertices) {
  const superstep::PhiloxBlock block = random_block(vertex, edge);
  return static_cast<std::int64_t>((std::uint64_t{block[0]} << 32 | block[1]) %
                                   static_cast<std::uint64_t>(num_vertices));
}

class PageRank {
 public:
  using Messages = CombiningQueue<double>;

  PageRank(World& world, std::int64_t num_vertices)
      : world_(world),
        num_vertices_(num_vertices),
        owners_(Partition::cyclic(num_vertices, world.size())),
        shares_(world),
        dangling_(world),
        change_(world) {
    begins_.push_back(0);
    for (std::int64_t i = 0; i < num_local(); ++i) {
      const std::int64_t vertex = owners_.global(world.rank(), i);
      for (std::int64_t edge = 0; edge < degree_of(vertex); ++edge) {
        targets_.push_back(neighbour(vertex, edge, num_vertices));
      }
      begins_.push_back(targets_.size());
    }
  }

  void run(HCounter& counter) {
    ranks_.assign(static_cast<std::size_t>(num_local()), 1.0 / static_cast<double>(num_vertices_));
    for (iterations_ = 0;;) {
      const bool converged = change_.has_value() && change_.value() < kTolerance;
      if (converged) {
        world_.vote_to_halt();
      } else {
        send_shares();
      }
      world_.sync();
      counter.end_superstep();
      if (world_.all_halted()) {
        return;
      }
      update();
      ++iterations_;
    }
  }

  std::int64_t num_local() const { return owners_.count(world_.rank()); }
  std::int64_t num_local_edges() const { return static_cast<std::int64_t>(targets_.size()); }
  int iterations() const { return iterations_; }
  const std::vector<double>& ranks() const { return ranks_; }
  const Partition& owners() const { return owners_; }

  // What the vertices [0, count) of this rank send, combined, by destination.
  std::vector<std::vector<Messages::Entry>> combined(std::int64_t count) const {
    std::vector<std::vector<Messages::Entry>> entries(static_cast<std::size_t>(world_.size()));
    for (std::int64_t i = 0; i < count; ++i) {
      for_each_share(i, [&](int owner, std::int64_t local, double share) {
        entries[static_cast<std::size_t>(owner)].push_back({local, share});
      });
    }
    for (std::vector<Messages::Entry>& list : entries) {
      superstep::bsp::combine_by_key(list, std::plus<double>());
    }
    return entries;
  }

 private:
  template <typename Visit>
  void for_each_share(std::int64_t i, Visit&& visit) const {
    const auto v = static_cast<std::size_t>(i);
    const double share =
        v < ranks_.size() ? ranks_[v] / static_cast<double>(begins_[v + 1] - begins_[v]) : 1.0;
    for (std::size_t edge = begins_[v]; edge < begins_[v + 1]; ++edge) {
      visit(owners_.owner(targets_[edge]), owners_.local(targets_[edge]), share);
    }
  }

  void send_shares() {
    double dangling = 0.0;
    for (std::int64_t i = 0; i < num_local(); ++i) {
      const auto v = static_cast<std::size_t>(i);
      dangling += begins_[v] == begins_[v + 1] ? ranks_[v] : 0.0;
      for_each_share(i, [&](int owner, std::int64_t local, double share) {
        shares_.send(owner, local, share);
      });
    }
    dangling_.add(dangling);
  }

  void update() {
    const auto n = static_cast<double>(num_vertices_);
    const double base = (1.0 - kDamping) / n + kDamping * dangling_.value() / n;
    std::vector<double> next(ranks_.size(), base);
    for (const Messages::Entry& entry : shares_) {
      next[static_cast<std::size_t>(entry.key)] += kDamping * entry.value;
    }
    double change = 0.0;
    for (std::size_t i = 0; i < next.size(); ++i) {
      change += std::abs(next[i] - ranks_[i]);
    }
    change_.add(change);
    ranks_ = std::move(next);
  }

  World& world_;
  std::int64_t num_vertices_;
  Partition owners_;
  std::vector<std::size_t> begins_;  // of each vertex's edges
  std::vector<std::int64_t> targets_;
  std::vector<double> ranks_;
  Messages shares_;
  Aggregator<double> dangling_;
  Aggregator<double> change_;
  int iterations_ = 0;
};

// One after the other, on every rank for itself.
std::vector<double> serial_pagerank(std::int64_t num_vertices, int iterations) {
  std::vector<std::vector<std::int64_t>> neighbours(static_cast<std::size_t>(num_vertices));
  for (std::int64_t vertex = 0; vertex < num_vertices; ++vertex) {
    for (std::int64_t edge = 0; edge < degree_of(vertex); ++edge) {
      neighbours[static_cast<std::size_t>(vertex)].push_back(neighbour(vertex, edge, num_vertices));
    }
  }
  const auto n = static_cast<double>(num_vertices);
  std::vector<double> ranks(neighbours.size(), 1.0 / n);
  for (int i = 0; i < iterations; ++i) {
    double dangling = 0.0;
    for (std::size_t v = 0; v < ranks.size(); ++v) {
      dangling += neighbours[v].empty() ? ranks[v] : 0.0;
    }
    std::vector<double> next(ranks.size(), (1.0 - kDamping) / n + kDamping * dangling / n);
    for (std::size_t v = 0; v < ranks.size(); ++v) {
      for (const std::int64_t target : neighbours[v]) {
        next[static_cast<std::size_t>(target)] +=
            kDamping * ranks[v] / static_cast<double>(neighbours[v].size());
      }
    }
    ranks = std::move(next);
  }
  return ranks;
}

void require_ranks(const World& world, const PageRank& pagerank, std::int64_t num_vertices) {
  const std::vector<double> expected = serial_pagerank(num_vertices, pagerank.iterations());
  // Other orders of some 64 additions of positive numbers per vertex and iteration.
  const double tolerance = 64.0 * pagerank.iterations() * std::numeric_limits<double>::epsilon();
  for (std::int64_t i = 0; i < pagerank.num_local(); ++i) {
    const std::int64_t vertex = pagerank.owners().global(world.rank(), i);
    const double want = expected[static_cast<std::size_t>(vertex)];
    const double got = pagerank.ranks()[static_cast<std::size_t>(i)];
    SUPERSTEP_CHECK(std::abs(got - want) <= tolerance * want, "rank of vertex", vertex, got, want);
  }
}

double combine_operations(std::int64_t edges) {
  return edges < 2 ? 1.0 : static_cast<double>(edges) * std::log2(static_cast<double>(edges));
}

struct Traffic {
  std::int64_t h_bytes = 0;           // of the shares
  std::int64_t entries_received = 0;  // own ones included
};

// From the graph: entries to each rank and from each rank.
Traffic traffic_of(World& world, const PageRank& pagerank) {
  const auto p = static_cast<std::size_t>(world.size());
  const auto me = static_cast<std::size_t>(world.rank());
  const auto combined = pagerank.combined(pagerank.num_local());
  std::vector<std::int64_t> to;
  to.reserve(combined.size());
  for (const auto& list : combined) {
    to.push_back(static_cast<std::int64_t>(list.size()));
  }
  std::vector<std::int64_t> all(p * p);
  world.allgather(std::span<const std::int64_t>(to), std::span(all),
                  std::vector<std::int64_t>(p, world.size()));
  std::int64_t sent = 0;
  std::int64_t received = 0;
  Traffic traffic;
  for (std::size_t other = 0; other < p; ++other) {
    const auto bytes = [](std::int64_t entries) {
      return entries == 0 ? 0 : kRecordBytes + 16 * entries;
    };
    traffic.entries_received += all[other * p + me];
    if (other != me) {
      sent += bytes(all[me * p + other]);
      received += bytes(all[other * p + me]);
    }
  }
  traffic.h_bytes = std::max(sent, received);
  return traffic;
}

void run(World& world, const Options& options) {
  const std::int64_t num_vertices = std::max<std::int64_t>(options.elements / kMeanDegree, 1);
  const std::int64_t others = world.size() - 1;
  PageRank pagerank(world, num_vertices);
  const Traffic traffic = traffic_of(world, pagerank);
  const std::int64_t h = world.allreduce(traffic.h_bytes, ReduceOp::kMax);

  const Measurement measured =
      measure(world, options.rounds, [&](HCounter& counter) { pagerank.run(counter); });
  require_ranks(world, pagerank, num_vertices);

  // A quarter of the vertices: what they send, and as many entries as come from p ranks.
  const std::int64_t quarter = (pagerank.num_local() + 3) / 4;
  const std::int64_t edges = pagerank.num_local_edges();
  const double send_rate = superstep::bsp::probe_rate(world, combine_operations((edges + 3) / 4),
                                                      [&] { pagerank.combined(quarter); });
  const auto lists = pagerank.combined(quarter);
  std::vector<PageRank::Messages::Entry> arrived;
  for (int i = 0; i < world.size(); ++i) {
    arrived.insert(arrived.end(), lists[static_cast<std::size_t>(world.rank())].begin(),
                   lists[static_cast<std::size_t>(world.rank())].end());
  }
  std::vector<double> next(static_cast<std::size_t>(pagerank.num_local()));
  const double receive_rate =
      superstep::bsp::probe_rate(world, static_cast<double>(arrived.size()) + 1.0, [&] {
        auto entries = arrived;
        superstep::bsp::combine_by_key(entries, std::plus<double>());
        for (const PageRank::Messages::Entry& entry : entries) {
          next[static_cast<std::size_t>(entry.key)] += kDamping * entry.value;
        }
      });
  const double sending = world.allreduce(combine_operations(edges), ReduceOp::kMax) / send_rate;
  const double receiving =
      world.allreduce(static_cast<double>(traffic.entries_received), ReduceOp::kMax) / receive_rate;

  const std::int64_t aggregated = others * (kRecordBytes + 8);  // one value to every other rank
  const std::int64_t lengths = others * kLengthBytes;
  Prediction prediction;
  for (int i = 0; i < pagerank.iterations(); ++i) {
    prediction.add({.work_seconds = sending + receiving,
                    .h_bytes = lengths + h + aggregated + (i > 0 ? aggregated : 0)});
  }
  prediction.add({.work_seconds = 0.0, .h_bytes = lengths + aggregated});  // everybody votes
  const std::int64_t largest = std::max<std::int64_t>(h, 4'096);
  const auto machine = superstep::bsp::probe(
      world,
      {.pattern = ProbePattern::kSends, .smallest_bytes = largest / 16, .largest_bytes = largest});
  report(world, options,
         {"pagerank", world.allreduce(edges, ReduceOp::kSum), prediction, measured, machine});
}

}  // namespace

int main(int argc, char** argv) {
  return run_example(argc, argv, 1'000'000, run);
}
