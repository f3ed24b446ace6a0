#include "kernels/gemm.h"

#include <atomic>
#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include "base/error.h"
#include "kernels/threads.h"
#include "tests/kernels/heavy_op_checks.h"
#include "tests/support/error_text.h"

namespace superstep::testing {
namespace {

using kernels::DType;
using kernels::GemmShape;
using kernels::Shape;
using kernels::Tensor;

template <typename T>
using Gemm = void (*)(const GemmShape&, const T*, const T*, T*);

Shape shape_of_a(const GemmShape& s) {
  return s.transpose_a ? Shape{s.k, s.m} : Shape{s.m, s.k};
}
Shape shape_of_b(const GemmShape& s) {
  return s.transpose_b ? Shape{s.n, s.k} : Shape{s.k, s.n};
}

std::vector<GemmShape> gemm_shapes() {
  std::vector<GemmShape> all;
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      for (const auto& [m, n, k] : std::vector<std::array<std::int64_t, 3>>{{1, 1, 1},
                                                                            {2, 3, 4},
                                                                            {7, 5, 3},
                                                                            {1, 64, 33},
                                                                            {64, 1, 33},
                                                                            {16, 10, 200},
                                                                            {33, 65, 129},
                                                                            {8, 256, 19}}) {
        all.push_back({m, n, k, ta, tb});
      }
    }
  }
  return all;
}

template <typename T>
Tensor product(Gemm<T> gemm, const GemmShape& shape, const Tensor& a, const Tensor& b) {
  Tensor c =
      Tensor::full(Shape{shape.m, shape.n}, a.dtype(), std::numeric_limits<double>::quiet_NaN());
  gemm(shape, a.data<T>().data(), b.data<T>().data(), c.mutable_data<T>().data());
  return c;
}

template <typename T>
void expect_products_match(Gemm<T> gemm) {
  const DType dtype = kernels::dtype_of<T>();
  for (const GemmShape& shape : gemm_shapes()) {
    const std::vector<Tensor> inputs = {random_tensor({dtype, shape_of_a(shape)}, 1),
                                        random_tensor({dtype, shape_of_b(shape)}, 2)};
    const kernels::Attributes attributes = {{"transpose_a", shape.transpose_a},
                                            {"transpose_b", shape.transpose_b}};
    const std::vector<ReferenceTensor> want =
        heavy_reference("matmul")(to_reference(inputs), attributes);
    const Tensor got = product<T>(gemm, shape, inputs[0], inputs[1]);
    EXPECT_LE(largest_difference(got, want[0]),
              rounding_of_sum(dtype, static_cast<double>(shape.k)))
        << shape.m << " " << shape.n << " " << shape.k << " " << shape.transpose_a
        << shape.transpose_b;
  }
}

TEST(Gemm, MatchesTheReferenceAndOverwritesWhatWasThere) {
  expect_products_match<float>(&kernels::gemm);
  expect_products_match<double>(&kernels::gemm);
  expect_products_match<float>(&kernels::gemm_eigen);
  expect_products_match<double>(&kernels::gemm_eigen);
}

TEST(Gemm, GivesZerosForAnEmptySumAndNothingForAnEmptyResult) {
  std::vector<float> c(6, 7.0F);
  kernels::gemm({.m = 2, .n = 3, .k = 0}, nullptr, nullptr, c.data());
  EXPECT_THAT(c, ::testing::Each(0.0F));
  std::vector<double> d(6, 7.0);
  kernels::gemm({.m = 2, .n = 3, .k = 0}, nullptr, nullptr, d.data());
  EXPECT_THAT(d, ::testing::Each(0.0));
  kernels::gemm({.m = 0, .n = 3, .k = 4}, nullptr, nullptr, c.data());
  EXPECT_THAT(c, ::testing::Each(0.0F));
}

// Views into larger buffers start anywhere; 64-byte alignment is only promised for whole tensors.
template <typename T>
void expect_same_bits_when_shifted(Gemm<T> gemm) {
  for (const GemmShape& shape : gemm_shapes()) {
    const DType dtype = kernels::dtype_of<T>();
    const Tensor a = random_tensor({dtype, shape_of_a(shape)}, 1);
    const Tensor b = random_tensor({dtype, shape_of_b(shape)}, 2);
    const Tensor c = product<T>(gemm, shape, a, b);
    for (const std::size_t shift : {1, 3, 7}) {
      std::vector<T> a_moved(shift, T{0});
      a_moved.insert(a_moved.end(), a.data<T>().begin(), a.data<T>().end());
      std::vector<T> b_moved(shift, T{0});
      b_moved.insert(b_moved.end(), b.data<T>().begin(), b.data<T>().end());
      std::vector<T> c_moved(c.data<T>().size() + shift);
      gemm(shape, a_moved.data() + shift, b_moved.data() + shift, c_moved.data() + shift);
      EXPECT_EQ(
          std::memcmp(c.bytes(), c_moved.data() + shift, static_cast<std::size_t>(c.num_bytes())),
          0)
          << shape.m << " " << shape.n << " " << shape.k << " shift " << shift;
    }
  }
}

TEST(Gemm, HasTheSameBitsWhereverTheBuffersLie) {
  expect_same_bits_when_shifted<float>(&kernels::gemm);
  expect_same_bits_when_shifted<float>(&kernels::gemm_eigen);
  expect_same_bits_when_shifted<double>(&kernels::gemm_eigen);
}

TEST(Gemm, HasTheSameBitsInAFreshThread) {
  const GemmShape shape{.m = 128, .n = 200, .k = 784};
  const Tensor a = random_tensor({DType::kFloat32, shape_of_a(shape)}, 1);
  const Tensor b = random_tensor({DType::kFloat32, shape_of_b(shape)}, 2);
  const Tensor here = product<float>(&kernels::gemm, shape, a, b);
  Tensor there;
  std::thread([&] { there = product<float>(&kernels::gemm, shape, a, b); }).join();
  EXPECT_TRUE(same_bits(here, there));
  std::thread([&] {
    kernels::set_team_size(1);
    there = product<float>(&kernels::gemm, shape, a, b);
  }).join();
  EXPECT_TRUE(same_bits(here, there));
}

TEST(TeamSize, BelongsToTheThreadAndIsOneUntilSet) {
  int fresh = 0;
  int after = 0;
  std::thread([&] {
    fresh = kernels::team_size();
    kernels::set_team_size(3);
    after = kernels::team_size();
  }).join();
  EXPECT_EQ(fresh, 1);
  EXPECT_EQ(after, 3);
  EXPECT_EQ(kernels::team_size(), 1);
}

TEST(TeamSize, RefusesImpossibleCounts) {
  EXPECT_THAT(error_text<InvalidArgument>([] { kernels::set_team_size(0); }),
              ::testing::HasSubstr("got 0, expected 1"));
  EXPECT_THAT(error_text<InvalidArgument>([] { kernels::set_team_size(-2); }),
              ::testing::HasSubstr("got -2"));
}

// A handler's view of where it runs. Signals belong to the process.
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<int> signals_on_own_stack{0};
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables)
std::atomic<int> signals_elsewhere{0};

extern "C" void note_where_handler_runs(int /*signal*/) {
  stack_t stack{};
  const bool own = sigaltstack(nullptr, &stack) == 0 && (stack.ss_flags & SS_ONSTACK) != 0;
  (own ? signals_on_own_stack : signals_elsewhere).fetch_add(1);
}

// oneDNN's product keeps its stack pointer in the heap: a signal's frame there would overwrite the
// heap.
TEST(Gemm, SignalsOfAThreadThatMultipliesHaveAStackOfTheirOwn) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = note_where_handler_runs;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  ASSERT_EQ(sigaction(SIGUSR2, &action, &before), 0);
  std::atomic<bool> multiplying{false};
  std::atomic<bool> done{false};
  std::thread worker([&] {
    kernels::set_team_size(1);
    const GemmShape shape{.m = 16, .n = 200, .k = 784};
    const Tensor a = Tensor::full(shape_of_a(shape), DType::kFloat32, 1.0);
    const Tensor b = Tensor::full(shape_of_b(shape), DType::kFloat32, 1.0);
    Tensor c = Tensor::zeros({shape.m, shape.n}, DType::kFloat32);
    while (!done) {
      kernels::gemm(shape, a.data<float>().data(), b.data<float>().data(),
                    c.mutable_data<float>().data());
      multiplying = true;
      for (const float value : c.data<float>()) {
        ASSERT_EQ(value, 784.0F);
      }
    }
  });
  while (!multiplying) {
    std::this_thread::yield();
  }
  constexpr int kSignals = 200;
  for (int i = 0; i < kSignals; ++i) {
    const int seen = signals_on_own_stack + signals_elsewhere;
    pthread_kill(worker.native_handle(), SIGUSR2);
    while (signals_on_own_stack + signals_elsewhere == seen) {
      std::this_thread::yield();
    }
  }
  done = true;
  worker.join();
  sigaction(SIGUSR2, &before, nullptr);
  EXPECT_EQ(signals_on_own_stack, kSignals);
  EXPECT_EQ(signals_elsewhere, 0);
}

}  // namespace
}  // namespace superstep::testing
