// C = A B with blocks of rows: the blocks of B go around a ring, straight from memory to memory,
// while every rank multiplies with the block that it has.
//
// Cost of p supersteps: 2 n^3/p operations, h = (p - 1) n^2/p elements, (p - 1) l and an empty
// synchronisation. (A grid of ranks sends sqrt(p) times less; McColl, Valiant 1996.)
//
//   mpirun -n 2 matrix_multiply --elements 1048576           # 1,024 x 1,024
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "base/check.h"
#include "bsp/coarray.h"
#include "bsp/message_record.h"
#include "bsp/partition.h"
#include "examples/bsp/example.h"

namespace {

using superstep::bsp::Coarray;
using superstep::bsp::Partition;
using superstep::bsp::ProbePattern;
using superstep::bsp::World;
using namespace superstep::examples;  // NOLINT(google-build-using-namespace): the frame

// Small integers: every product and sum is exact.
double a_at(std::int64_t row, std::int64_t column) {
  return static_cast<double>((3 * row + column) % 7 - 3);
}
double b_at(std::int64_t row, std::int64_t column) {
  return static_cast<double>((row + 5 * column) % 11 - 5);
}

// A tile of b (kTileRows x kTileColumns) stays in the second-level cache, a few rows of c's tile in
// the first: the rate hardly depends on the number of rows.
constexpr std::int64_t kTileRows = 64;
constexpr std::int64_t kTileColumns = 256;
constexpr std::int64_t kRowsAtOnce = 4;

struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// The part of c += a b for these rows of a, rows of b (`inner`) and columns; rows are n apart.
void multiply_tile(Range rows, Range inner, Range columns, std::int64_t n, const double* a,
                   const double* b, double* c) {
  for (std::int64_t k = inner.begin; k < inner.end; ++k) {
    for (std::int64_t i = rows.begin; i < rows.end; ++i) {
      const double factor = a[i * n + k];
      for (std::int64_t j = columns.begin; j < columns.end; ++j) {
        c[i * n + j] += factor * b[k * n + j];
      }
    }
  }
}

// c (rows x n) += a (rows x inner, rows n apart) b (inner x n).
void multiply_add(std::int64_t rows, std::int64_t inner, std::int64_t n, const double* a,
                  const double* b, double* c) {
  const auto tile = [](std::int64_t begin, std::int64_t length, std::int64_t end) {
    return Range{begin, std::min(begin + length, end)};
  };
  for (std::int64_t k = 0; k < inner; k += kTileRows) {
    for (std::int64_t j = 0; j < n; j += kTileColumns) {
      for (std::int64_t i = 0; i < rows; i += kRowsAtOnce) {
        multiply_tile(tile(i, kRowsAtOnce, rows), tile(k, kTileRows, inner),
                      tile(j, kTileColumns, n), n, a, b, c);
      }
    }
  }
}

class RingMultiply {
 public:
  RingMultiply(World& world, std::int64_t n)
      : world_(world),
        n_(n),
        rows_(Partition::balanced(n, world.size())),
        block_size_((n + world.size() - 1) / world.size() * n),
        blocks_(world, 2 * block_size_) {
    for (std::int64_t i = 0; i < my_rows(); ++i) {
      for (std::int64_t j = 0; j < n_; ++j) {
        a_.push_back(a_at(rows_.global(world.rank(), i), j));
        b_.push_back(b_at(rows_.global(world.rank(), i), j));
      }
    }
    c_.resize(a_.size());
  }

  void run(HCounter& counter) {
    std::copy(b_.begin(), b_.end(), current(0));
    std::fill(c_.begin(), c_.end(), 0.0);
    for (int step = 0; step < world_.size(); ++step) {
      const int block = (world_.rank() + step) % world_.size();
      if (step + 1 < world_.size()) {
        send_on(step, block);
      }
      multiply_add(my_rows(), rows_.count(block), n_, a_.data() + rows_.global(block, 0),
                   current(step), c_.data());
      world_.sync();
      counter.end_superstep();
    }
  }

  // A quarter of the rows with one block: operations, and the call that does them.
  double sample_operations() const {
    const std::int64_t products = sample_rows() * rows_.count(world_.rank()) * n_;
    return 2.0 * static_cast<double>(products);
  }
  void run_sample() {
    multiply_add(sample_rows(), rows_.count(world_.rank()), n_, a_.data(), current(0), c_.data());
  }

  std::int64_t my_rows() const { return rows_.count(world_.rank()); }
  const Partition& rows() const { return rows_; }
  std::span<const double> c() const { return c_; }

 private:
  std::int64_t sample_rows() const { return (my_rows() + 3) / 4; }
  double* current(int step) { return blocks_.local().data() + step % 2 * block_size_; }

  void send_on(int step, int block) {
    const int previous = (world_.rank() + world_.size() - 1) % world_.size();
    const std::int64_t begin = (step + 1) % 2 * block_size_;
    const std::int64_t size = rows_.count(block) * n_;
    blocks_(previous)[{begin, begin + size}].put_unbuffered(
        std::span<const double>(current(step), static_cast<std::size_t>(size)));
  }

  World& world_;
  std::int64_t n_;
  Partition rows_;
  std::int64_t block_size_;  // of the largest block
  Coarray<double> blocks_;   // two: one is multiplied with, one arrives
  std::vector<double> a_;
  std::vector<double> b_;
  std::vector<double> c_;
};

// C x = A (B x), exactly, for an x of integers (Freivalds 1979).
void require_product(const World& world, const RingMultiply& product, std::int64_t n) {
  std::vector<double> bx(static_cast<std::size_t>(n), 0.0);
  const auto x_at = [](std::int64_t j) { return static_cast<double>(j % 5 + 1); };
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      bx[static_cast<std::size_t>(i)] += b_at(i, j) * x_at(j);
    }
  }
  for (std::int64_t i = 0; i < product.my_rows(); ++i) {
    double expected = 0.0;
    double got = 0.0;
    for (std::int64_t j = 0; j < n; ++j) {
      expected += a_at(product.rows().global(world.rank(), i), j) * bx[static_cast<std::size_t>(j)];
      got += product.c()[static_cast<std::size_t>(i * n + j)] * x_at(j);
    }
    SUPERSTEP_CHECK(got == expected, "row of C", product.rows().global(world.rank(), i));
  }
}

void run(World& world, const Options& options) {
  const auto n = std::llround(std::sqrt(static_cast<double>(options.elements)));
  const int p = world.size();
  SUPERSTEP_CHECK(n >= p, "fewer rows than ranks", n, p);
  RingMultiply product(world, n);
  const Measurement measured =
      measure(world, options.rounds, [&](HCounter& counter) { product.run(counter); });
  require_product(world, product, n);

  const double rate =
      superstep::bsp::probe_rate(world, product.sample_operations(), [&] { product.run_sample(); });
  const std::int64_t largest_block = (n + p - 1) / p * n * 8;
  Prediction prediction;
  for (int step = 0; step < p; ++step) {
    const std::int64_t h = superstep::bsp::internal::kStreamLengthBytes * (p - 1) +
                           superstep::bsp::internal::kRecordBytes + largest_block;
    const std::int64_t rows = (n + p - 1) / p;
    prediction.add({.work_seconds = 2.0 * static_cast<double>(rows * rows * n) / rate,
                    .h_bytes = step + 1 < p ? h : 0});
  }
  const std::int64_t largest = std::max<std::int64_t>(largest_block, 4'096);
  const auto machine = superstep::bsp::probe(world, {.pattern = ProbePattern::kUnbufferedPuts,
                                                     .smallest_bytes = largest / 16,
                                                     .largest_bytes = largest});
  report(world, options, {"matrix_multiply", n * n, prediction, measured, machine});
}

}  // namespace

int main(int argc, char** argv) {
  return run_example(argc, argv, 1'048'576, run);
}
