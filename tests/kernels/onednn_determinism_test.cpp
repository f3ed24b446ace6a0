// The bits of the heavy kernels do not depend on the environment's thread counts, on binding or on
// the thread that asks. oneDNN reads OMP_NUM_THREADS once per process, so the program starts itself
// again.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/hash.h"
#include "kernels/op_table.h"
#include "kernels/precision.h"
#include "kernels/threads.h"
#include "tests/support/reference_heavy_ops.h"

namespace superstep::testing {
namespace {

using kernels::DType;
using kernels::Precision;
using kernels::Shape;
using kernels::Tensor;
using Sizes = std::vector<std::int64_t>;

// The filter gradients are those that oneDNN is known to split by threads.
std::string hash_of_results() {
  Hasher hasher;
  const auto add_one = [&](const char* op, const std::vector<Shape>& shapes,
                           const kernels::Attributes& attributes) {
    std::vector<Tensor> inputs;
    inputs.reserve(shapes.size());
    for (const Shape& shape : shapes) {
      inputs.push_back(random_tensor({DType::kFloat32, shape}, inputs.size() + 1));
    }
    for (const Tensor& output : kernels::apply(op, inputs, attributes)) {
      hasher.update({output.bytes(), static_cast<std::size_t>(output.num_bytes())});
    }
  };
  const auto add = [&](const char* op, const std::vector<Shape>& shapes,
                       const kernels::Attributes& attributes) {
    for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
      add_one(op, shapes, with_precision(attributes, precision));
    }
  };
  const Sizes same5 = {2, 2, 2, 2};
  const Sizes same3 = {1, 1, 1, 1};
  add("conv2d", {Shape{16, 1, 28, 28}, Shape{32, 1, 5, 5}}, {{"padding", same5}});
  add("conv2d_backward_filter", {Shape{16, 1, 28, 28}, Shape{16, 32, 28, 28}},
      {{"padding", same5}, {"filter_shape", Sizes{32, 1, 5, 5}}});
  add("conv2d_backward_filter", {Shape{16, 16, 28, 28}, Shape{16, 16, 28, 28}},
      {{"padding", same5}, {"filter_shape", Sizes{16, 16, 5, 5}}});
  add("conv2d_backward_input", {Shape{16, 16, 32, 32}, Shape{16, 16, 3, 3}},
      {{"padding", same3}, {"input_shape", Sizes{16, 16, 32, 32}}});
  add("matmul", {Shape{64, 784}, Shape{784, 200}}, {});
  add("matmul", {Shape{64, 784}, Shape{64, 200}}, {{"transpose_a", true}});
  add_one("batch_norm", {Shape{16, 16, 32, 32}, Shape{16}, Shape{16}}, {{"epsilon", 1e-5}});
  return to_text(hasher.digest());
}

// The line it prints is read by hash_under(), in whose process it runs alone.
TEST(HeavyKernels, HaveTheSameBitsWhenComputedAgain) {
  const std::string first = hash_of_results();
  std::printf("hash %s\n", first.c_str());
  EXPECT_EQ(hash_of_results(), first);
}

std::string program_path() {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : std::string();
}

// The hash that a process of its own prints, started with `environment` in front of the command.
std::string hash_under(const std::string& environment) {
  const std::string command = "env " + environment + " '" + program_path() +
                              "' --gtest_filter=HeavyKernels.HaveTheSameBitsWhenComputedAgain";
  std::string found;
  std::FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 512> line{};
  while (pipe != nullptr && std::fgets(line.data(), line.size(), pipe) != nullptr) {
    const std::string text(line.data());
    if (text.rfind("hash ", 0) == 0) {
      found = text.substr(5, text.size() - 6);
    }
  }
  if (pipe != nullptr) {
    pclose(pipe);
  }
  return found;
}

TEST(HeavyKernels, HaveTheSameBitsWhateverTheEnvironmentSaysAboutThreads) {
  const std::string here = hash_of_results();
  for (const char* environment :
       {"-u OMP_NUM_THREADS", "OMP_NUM_THREADS=1", "OMP_NUM_THREADS=2",
        "OMP_NUM_THREADS=4 OMP_DYNAMIC=true", "OMP_NUM_THREADS=2 OMP_PROC_BIND=true"}) {
    EXPECT_EQ(hash_under(environment), here) << environment;
  }
}

TEST(HeavyKernels, HaveTheSameBitsInFreshThreads) {
  const std::string here = hash_of_results();
  std::vector<std::string> there(3);
  std::vector<std::thread> lanes;
  for (std::string& hash : there) {
    const bool sets_team = &hash != &there[0];
    lanes.emplace_back([&hash, sets_team] {
      if (sets_team) {
        kernels::set_team_size(1);
      }
      hash = hash_of_results();
    });
  }
  for (std::thread& lane : lanes) {
    lane.join();
  }
  for (const std::string& hash : there) {
    EXPECT_EQ(hash, here);
  }
}

// A kernel keeps the team of the thread that made it.
TEST(HeavyKernels, HaveTheSameBitsWhenMadeAndRunByDifferentThreads) {
  const kernels::OpInfo& op = kernels::find_op("conv2d_backward_filter");
  const std::vector<Tensor> inputs = {random_tensor({DType::kFloat32, Shape{16, 1, 28, 28}}, 1),
                                      random_tensor({DType::kFloat32, Shape{16, 32, 28, 28}}, 2)};
  const kernels::Attributes attributes = {{"padding", Sizes{2, 2, 2, 2}},
                                          {"filter_shape", Sizes{32, 1, 5, 5}}};
  const std::vector<kernels::TensorType> types = kernels::types_of(inputs);
  const kernels::OpSignature signature{types, attributes};
  const auto kernel = kernels::select_kernel(op, signature).make(signature);
  std::vector<Tensor> outputs = {Tensor::zeros(Shape{32, 1, 5, 5}, DType::kFloat32)};
  Tensor workspace = Tensor::zeros(Shape{kernel->workspace_bytes()}, DType::kUint8);
  std::thread([&] {
    kernels::set_team_size(2);
    kernel->run(inputs, outputs,
                {workspace.mutable_bytes(), static_cast<std::size_t>(workspace.num_bytes())});
    EXPECT_EQ(kernels::team_size(), 2);
  }).join();
  EXPECT_TRUE(same_bits(outputs[0], kernels::apply(op, inputs, attributes)[0]));
}

// oneDNN may choose another algorithm for another batch size, but only ones that add up the same
// products: all inputs are in [-1, 1), so the sums of C * kh * kw of them differ by rounding alone.
TEST(HeavyKernels, AgreeOnABatchAndOnItsSlicesUpToRounding) {
  const kernels::Attributes window = {{"padding", Sizes{2, 2, 2, 2}}};
  for (const auto& [x, filter] :
       std::vector<std::pair<Shape, Shape>>{{Shape{128, 1, 28, 28}, Shape{32, 1, 5, 5}},
                                            {Shape{128, 32, 14, 14}, Shape{64, 32, 5, 5}}}) {
    const Tensor batch = random_tensor({DType::kFloat32, x}, 1);
    const Tensor weights = random_tensor({DType::kFloat32, filter}, 2);
    const Tensor whole = kernels::apply("conv2d", std::vector<Tensor>{batch, weights}, window)[0];
    const auto terms = static_cast<float>(filter[1] * filter[2] * filter[3]);
    const float tolerance = terms * std::numeric_limits<float>::epsilon();
    const auto size = static_cast<std::size_t>(batch.num_elements() / 8);
    const auto result_size = static_cast<std::size_t>(whole.num_elements() / 8);
    for (std::size_t slice = 0; slice < 8; ++slice) {
      const Tensor part = Tensor::from<float>(Shape{16, x[1], x[2], x[3]},
                                              batch.data<float>().subspan(slice * size, size));
      const Tensor y = kernels::apply("conv2d", std::vector<Tensor>{part, weights}, window)[0];
      ASSERT_EQ(y.num_elements() * 8, whole.num_elements());
      const auto expected = whole.data<float>().subspan(slice * result_size, result_size);
      float largest = 0;
      for (std::size_t i = 0; i < result_size; ++i) {
        largest = std::max(largest, std::abs(y.data<float>()[i] - expected[i]));
      }
      EXPECT_LE(largest, tolerance) << x.to_string() << ", slice " << slice;
    }
  }
}

}  // namespace
}  // namespace superstep::testing
