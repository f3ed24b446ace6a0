#include "kernels/blocked_pool_ops.h"

#include <algorithm>
#include <array>
#include <vector>

#include "kernels/blocked_max_window.h"
#include "kernels/channel_blocks.h"
#include "kernels/pool_loops.h"
#include "kernels/pool_support.h"

namespace superstep::kernels {
namespace {

constexpr std::size_t kBlockBytes = sizeof(BlockOfFloats);
static_assert(kBlockBytes == sizeof(BlockOfInts));

std::int64_t block_planes_of(const Tensor& images) {
  return planes_of(images) / kBlockWidth;
}

class BlockedMaxPool final : public Kernel {
 public:
  explicit BlockedMaxPool(const Window& window)
      : window_(window), positions_(internal::max_pool_positions(window)) {}

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> /*workspace*/) const override {
    const float* x = inputs[0].data<float>().data();
    float* y = outputs[0].mutable_data<float>().data();
    std::int32_t* argmax = outputs[1].mutable_data<std::int32_t>().data();
    for (std::int64_t plane = 0; plane < block_planes_of(inputs[0]); ++plane) {
      for (std::int64_t k = 0; k < window_.output_plane(); ++k) {
        max_of_window(
            window_, positions_.data() + k,
            [x](std::int32_t position) {
              return load_block(x + std::int64_t{position} * kBlockWidth);
            },
            y, argmax);
        y += kBlockWidth;
        argmax += kBlockWidth;
      }
      x += window_.input_plane() * kBlockWidth;
    }
  }

 private:
  Window window_;
  std::vector<std::int32_t> positions_;
};

template <PoolPass kPass>
class BlockedAveragePool final : public Kernel {
 public:
  explicit BlockedAveragePool(const Window& window)
      : window_(window), counts_(internal::elements_inside(window)) {}

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> /*workspace*/) const override {
    const std::span<float> result = outputs[0].mutable_data<float>();
    std::fill(result.begin(), result.end(), 0.0F);
    const float* from = inputs[0].data<float>().data();
    float* to = result.data();
    for (std::int64_t plane = 0; plane < block_planes_of(inputs[0]); ++plane) {
      if constexpr (kPass == PoolPass::kForward) {
        forward(from, to);
        from += window_.input_plane() * kBlockWidth;
        to += window_.output_plane() * kBlockWidth;
      } else {
        backward(from, to);
        from += window_.output_plane() * kBlockWidth;
        to += window_.input_plane() * kBlockWidth;
      }
    }
  }

 private:
  // Calls function(output position, input position) tap by tap.
  template <typename Function>
  void for_taps(const Function& function) const {
    internal::for_each_row_of_taps(
        window_, [&](std::int64_t q, std::int64_t i, std::int64_t source_row) {
          const std::int64_t last = window_.columns.last_inside(q);
          for (std::int64_t j = window_.columns.first_inside(q); j < last; ++j) {
            function(i * window_.columns.output + j,
                     source_row * window_.columns.input + window_.columns.source(j, q));
          }
        });
  }

  void forward(const float* x, float* y) const {
    for_taps([&](std::int64_t output, std::int64_t input) {
      float* sum = y + output * kBlockWidth;
      store_block(load_block(sum) + load_block(x + input * kBlockWidth), sum);
    });
    for (std::int64_t k = 0; k < window_.output_plane(); ++k) {
      float* mean = y + k * kBlockWidth;
      store_block(load_block(mean) / static_cast<float>(counts_[static_cast<std::size_t>(k)]),
                  mean);
    }
  }

  void backward(const float* dy, float* dx) const {
    for_taps([&](std::int64_t output, std::int64_t input) {
      float* sum = dx + input * kBlockWidth;
      store_block(
          load_block(sum) + load_block(dy + output * kBlockWidth) /
                                static_cast<float>(counts_[static_cast<std::size_t>(output)]),
          sum);
    });
  }

  Window window_;
  std::vector<double> counts_;
};

}  // namespace

std::unique_ptr<Kernel> make_blocked_max_pool(const Window& window) {
  return std::make_unique<BlockedMaxPool>(window);
}

void blocked_max_pool_backward(const Tensor& grad, const Tensor& argmax, Tensor& dx) {
  const std::int64_t from = plane_of(grad.shape());
  const std::int64_t to = plane_of(dx.shape());
  const float* g = grad.data<float>().data();
  const std::int32_t* position = argmax.data<std::int32_t>().data();
  float* target = dx.mutable_data<float>().data();
  for (std::int64_t plane = 0; plane < block_planes_of(dx); ++plane) {
    std::fill(target, target + to * kBlockWidth, 0.0F);
    for (std::int64_t k = 0; k < from; ++k) {
      for (std::int64_t c = 0; c < kBlockWidth; ++c) {
        target[std::int64_t{position[c]} * kBlockWidth + c] += g[c];
      }
      g += kBlockWidth;
      position += kBlockWidth;
    }
    target += to * kBlockWidth;
  }
}

std::unique_ptr<Kernel> make_blocked_average_pool(PoolPass pass, const Window& window) {
  if (pass == PoolPass::kForward) {
    return std::make_unique<BlockedAveragePool<PoolPass::kForward>>(window);
  }
  return std::make_unique<BlockedAveragePool<PoolPass::kBackward>>(window);
}

void run_blocked_global_average_pool(std::span<const Tensor> inputs,
                                     const Attributes& /*attributes*/, std::span<Tensor> outputs) {
  const std::int64_t plane = plane_of(inputs[0].shape());
  const float* x = inputs[0].data<float>().data();
  float* means = outputs[0].mutable_data<float>().data();
  for (std::int64_t block = 0; block < block_planes_of(inputs[0]); ++block) {
    std::array<double, kBlockWidth> sums{};
    add_block_sums(
        plane, [&](std::int64_t i) { return load_block(x + i * kBlockWidth); }, sums.data());
    for (const double sum : sums) {
      *means++ = static_cast<float>(sum / static_cast<double>(plane));
    }
    x += plane * kBlockWidth;
  }
}

void run_blocked_global_average_pool_backward(std::span<const Tensor> inputs,
                                              const Attributes& /*attributes*/,
                                              std::span<Tensor> outputs) {
  const std::int64_t plane = plane_of(outputs[0].shape());
  const float* grad = inputs[0].data<float>().data();
  float* dx = outputs[0].mutable_data<float>().data();
  for (std::int64_t block = 0; block < block_planes_of(outputs[0]); ++block) {
    const BlockOfFloats value = load_block(grad) / static_cast<float>(plane);
    grad += kBlockWidth;
    for (std::int64_t i = 0; i < plane; ++i, dx += kBlockWidth) {
      store_block(value, dx);
    }
  }
}

}  // namespace superstep::kernels
