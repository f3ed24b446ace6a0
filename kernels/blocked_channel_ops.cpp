#include "kernels/blocked_channel_ops.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/channel_blocks.h"

namespace superstep::kernels {
namespace {

using Doubles = std::array<double, kBlockWidth>;

constexpr std::size_t kWidth = static_cast<std::size_t>(kBlockWidth);

// y[i] = function(i) for all positions of the block planes of one channel block.
template <typename Function>
void map_block(const ChannelView& view, std::int64_t first_channel, const Function& function,
               float* y) {
  for_samples_of_block(view, first_channel, [&](std::int64_t offset) {
    for (std::int64_t i = offset; i < offset + view.plane * kBlockWidth; i += kBlockWidth) {
      store_block(function(i), y + i);
    }
  });
}

// The sums over samples and positions of term(i), per channel of one block.
template <typename Term>
Doubles sum_block(const ChannelView& view, std::int64_t first_channel, const Term& term) {
  Doubles sums{};
  for_samples_of_block(view, first_channel, [&](std::int64_t offset) {
    add_block_sums(
        view.plane, [&](std::int64_t position) { return term(offset + position * kBlockWidth); },
        sums.data());
  });
  return sums;
}

double inverse_deviation(double variance, double epsilon) {
  return 1.0 / std::sqrt(variance + epsilon);
}

double divisor(const ChannelView& view) {
  return static_cast<double>(std::max<std::int64_t>(1, view.count()));
}

void normalise(const ChannelView& view, std::int64_t first, const float* x, const float* mean,
               const BlockOfFloats& factor, const float* beta, float* y) {
  const BlockOfFloats m = load_block(mean + first);
  const BlockOfFloats b = load_block(beta + first);
  map_block(
      view, first, [&](std::int64_t i) { return (load_block(x + i) - m) * factor + b; }, y);
}

}  // namespace

void run_blocked_bias_add(std::span<const Tensor> inputs, const Attributes& /*attributes*/,
                          std::span<Tensor> outputs) {
  const ChannelView view = ChannelView::of(inputs[0].shape());
  const float* x = inputs[0].data<float>().data();
  for (std::int64_t first = 0; first < view.channels; first += kBlockWidth) {
    const BlockOfFloats bias = load_block(inputs[1].data<float>().data() + first);
    map_block(
        view, first, [&](std::int64_t i) { return load_block(x + i) + bias; },
        outputs[0].mutable_data<float>().data());
  }
}

void run_blocked_bias_add_backward(std::span<const Tensor> inputs, const Attributes& /*attributes*/,
                                   std::span<Tensor> outputs) {
  const ChannelView view = ChannelView::of(inputs[0].shape());
  const float* grad = inputs[0].data<float>().data();
  float* result = outputs[0].mutable_data<float>().data();
  for (std::int64_t first = 0; first < view.channels; first += kBlockWidth) {
    const Doubles sums =
        sum_block(view, first, [&](std::int64_t i) { return load_block(grad + i); });
    std::transform(sums.begin(), sums.end(), result + first,
                   [](double sum) { return static_cast<float>(sum); });
  }
}

void run_blocked_batch_norm(std::span<const Tensor> inputs, const Attributes& attributes,
                            std::span<Tensor> outputs) {
  const ChannelView view = ChannelView::of(inputs[0].shape());
  const double epsilon = attributes.real("epsilon");
  const float* x = inputs[0].data<float>().data();
  const float* gamma = inputs[1].data<float>().data();
  float* mean = outputs[1].mutable_data<float>().data();
  float* variance = outputs[2].mutable_data<float>().data();
  for (std::int64_t first = 0; first < view.channels; first += kBlockWidth) {
    const Doubles sums = sum_block(view, first, [&](std::int64_t i) { return load_block(x + i); });
    for (std::size_t c = 0; c < kWidth; ++c) {
      mean[first + static_cast<std::int64_t>(c)] = static_cast<float>(sums[c] / divisor(view));
    }
    const BlockOfFloats m = load_block(mean + first);
    const Doubles squares = sum_block(view, first, [&](std::int64_t i) {
      const BlockOfFloats deviation = load_block(x + i) - m;
      return deviation * deviation;
    });
    BlockOfFloats factor{};
    for (std::size_t c = 0; c < kWidth; ++c) {
      const std::int64_t channel = first + static_cast<std::int64_t>(c);
      const double biased = squares[c] / divisor(view);
      variance[channel] = static_cast<float>(biased);
      factor[c] = static_cast<float>(static_cast<double>(gamma[channel]) *
                                     inverse_deviation(biased, epsilon));
    }
    normalise(view, first, x, mean, factor, inputs[2].data<float>().data(),
              outputs[0].mutable_data<float>().data());
  }
}

void run_blocked_batch_norm_backward(std::span<const Tensor> inputs, const Attributes& attributes,
                                     std::span<Tensor> outputs) {
  const ChannelView view = ChannelView::of(inputs[1].shape());
  const double epsilon = attributes.real("epsilon");
  const float* grad = inputs[0].data<float>().data();
  const float* x = inputs[1].data<float>().data();
  const float* gamma = inputs[2].data<float>().data();
  const float* variance = inputs[4].data<float>().data();
  float* dgamma = outputs[1].mutable_data<float>().data();
  float* dbeta = outputs[2].mutable_data<float>().data();
  for (std::int64_t first = 0; first < view.channels; first += kBlockWidth) {
    const BlockOfFloats m = load_block(inputs[3].data<float>().data() + first);
    const Doubles sums =
        sum_block(view, first, [&](std::int64_t i) { return load_block(grad + i); });
    const Doubles products = sum_block(view, first, [&](std::int64_t i) {
      return load_block(grad + i) * (load_block(x + i) - m);
    });
    BlockOfFloats of_grad{};
    BlockOfFloats of_x{};
    BlockOfFloats constant{};
    for (std::size_t c = 0; c < kWidth; ++c) {
      const std::int64_t channel = first + static_cast<std::int64_t>(c);
      const double s = inverse_deviation(static_cast<double>(variance[channel]), epsilon);
      const double scale = static_cast<double>(gamma[channel]);
      const double a = s * scale;
      dbeta[channel] = static_cast<float>(sums[c]);
      dgamma[channel] = static_cast<float>(products[c] * s);
      of_grad[c] = static_cast<float>(a);
      constant[c] = static_cast<float>(-a * sums[c] / divisor(view));
      of_x[c] = static_cast<float>(-scale * s * s * s * products[c] / divisor(view));
    }
    map_block(
        view, first,
        [&](std::int64_t i) {
          return of_grad * load_block(grad + i) + of_x * (load_block(x + i) - m) + constant;
        },
        outputs[0].mutable_data<float>().data());
  }
}

void run_blocked_batch_norm_inference(std::span<const Tensor> inputs, const Attributes& attributes,
                                      std::span<Tensor> outputs) {
  const ChannelView view = ChannelView::of(inputs[0].shape());
  const double epsilon = attributes.real("epsilon");
  const float* gamma = inputs[1].data<float>().data();
  const float* variance = inputs[4].data<float>().data();
  for (std::int64_t first = 0; first < view.channels; first += kBlockWidth) {
    BlockOfFloats factor{};
    for (std::size_t c = 0; c < kWidth; ++c) {
      const std::int64_t channel = first + static_cast<std::int64_t>(c);
      factor[c] =
          static_cast<float>(static_cast<double>(gamma[channel]) *
                             inverse_deviation(static_cast<double>(variance[channel]), epsilon));
    }
    normalise(view, first, inputs[0].data<float>().data(), inputs[3].data<float>().data(), factor,
              inputs[2].data<float>().data(), outputs[0].mutable_data<float>().data());
  }
}

}  // namespace superstep::kernels
