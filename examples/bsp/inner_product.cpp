// The inner product of two vectors (Bisseling 2004, 1.3): every rank multiplies its block, and the
// partial sums are added up in one superstep by an aggregator.
//
// Cost: 2 n/p operations + (p - 1) values of h + l.
//
//   mpirun -n 2 inner_product --elements 1000000
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "bsp/aggregator.h"
#include "bsp/message_record.h"
#include "bsp/partition.h"
#include "examples/bsp/example.h"

namespace {

using superstep::bsp::Aggregator;
using superstep::bsp::Partition;
using superstep::bsp::ProbePattern;
using superstep::bsp::World;
using namespace superstep::examples;  // NOLINT(google-build-using-namespace): the frame

double inner_product(std::span<const double> x, std::span<const double> y) {
  double sum = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum += x[i] * y[i];
  }
  return sum;
}

// Small integers: the sum is exact, in any order.
double x_at(std::int64_t i) {
  return static_cast<double>(i % 1'000);
}
double y_at(std::int64_t i) {
  return static_cast<double>(i % 7);
}

void run(World& world, const Options& options) {
  const std::int64_t n = options.elements;
  const Partition blocks = Partition::balanced(n, world.size());
  std::vector<double> x;
  std::vector<double> y;
  for (std::int64_t i = 0; i < blocks.count(world.rank()); ++i) {
    x.push_back(x_at(blocks.global(world.rank(), i)));
    y.push_back(y_at(blocks.global(world.rank(), i)));
  }
  Aggregator<double> sum(world);
  double result = 0.0;
  const auto program = [&](HCounter& counter) {
    sum.add(inner_product(x, y));
    world.sync();
    counter.end_superstep();
    result = sum.value();
  };

  const std::int64_t others = world.size() - 1;
  const std::int64_t h = others * (superstep::bsp::internal::kStreamLengthBytes +
                                   superstep::bsp::internal::kRecordBytes + 8);
  const auto machine = superstep::bsp::probe(
      world, {.pattern = ProbePattern::kSends, .smallest_bytes = 8, .largest_bytes = 4'096});
  // A quarter of the work says how long all of it takes.
  const std::size_t quarter = x.size() / 4 + 1;
  double unused = 0.0;
  const double rate = superstep::bsp::probe_rate(
      world, 2.0 * static_cast<double>(std::min(quarter, x.size())),
      [&] { unused += inner_product(std::span(x).first(std::min(quarter, x.size())), y); });
  Prediction prediction;
  prediction.add({.work_seconds = 2.0 * static_cast<double>(blocks.count(world.size() - 1)) / rate,
                  .h_bytes = h});
  const Measurement measured = measure(world, options.rounds, program);

  double expected = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    expected += x_at(i) * y_at(i);
  }
  SUPERSTEP_CHECK(result == expected && unused >= 0.0, "inner product", result, expected);
  report(world, options, {"inner_product", n, prediction, measured, machine});
}

}  // namespace

int main(int argc, char** argv) {
  return run_example(argc, argv, 1'000'000, run);
}
