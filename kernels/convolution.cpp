#include "kernels/convolution.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/gemm.h"

namespace superstep::kernels {
namespace {

// A product needs about this many columns to run at full speed; small planes are unfolded together.
constexpr std::int64_t kWantedColumns = 256;
// ... unless the unfolded block would leave the second-level cache (elements).
constexpr std::int64_t kLargestBlock = 512 * 1024;

// Only the filter gradient, a sum over samples, takes several at once: where a product's columns
// belong to samples, a column's bits depend on its place among them (tails are not fused as packets
// are), and a sample's result must depend neither on its place in the batch nor on the size of the
// batch.
std::int64_t samples_per_block(ConvolutionPass pass, const Convolution& convolution) {
  if (pass != ConvolutionPass::kBackwardFilter) {
    return 1;
  }
  const std::int64_t plane = convolution.window.output_plane();
  const std::int64_t wanted = (kWantedColumns + plane - 1) / plane;
  const std::int64_t room =
      kLargestBlock / std::max<std::int64_t>(1, convolution.patch_size() * plane);
  return std::max<std::int64_t>(1, std::min({wanted, room, convolution.batch}));
}

// One row of the unfolded matrix for one sample: every output position of one (channel, tap).
template <typename T>
void unfold_tap(const Window& window, std::int64_t tap_row, std::int64_t tap_column, const T* plane,
                T* row) {
  const std::int64_t first = window.columns.first_inside(tap_column);
  const std::int64_t last = std::max(first, window.columns.last_inside(tap_column));
  for (std::int64_t i = 0; i < window.rows.output; ++i, row += window.columns.output) {
    const std::int64_t source_row = window.rows.source(i, tap_row);
    if (source_row < 0 || source_row >= window.rows.input) {
      std::fill(row, row + window.columns.output, T{0});
      continue;
    }
    const T* line = plane + source_row * window.columns.input;
    const std::int64_t stride = window.columns.stride;
    const std::int64_t shift = window.columns.source(0, tap_column);
    std::fill(row, row + first, T{0});
    for (std::int64_t j = first; j < last; ++j) {
      row[j] = line[j * stride + shift];
    }
    std::fill(row + last, row + window.columns.output, T{0});
  }
}

// The adjoint of unfold_tap: adds the row back into the plane.
template <typename T>
void fold_tap(const Window& window, std::int64_t tap_row, std::int64_t tap_column, const T* row,
              T* plane) {
  const std::int64_t first = window.columns.first_inside(tap_column);
  const std::int64_t last = window.columns.last_inside(tap_column);
  const std::int64_t stride = window.columns.stride;
  const std::int64_t shift = window.columns.source(0, tap_column);
  for (std::int64_t i = 0; i < window.rows.output; ++i, row += window.columns.output) {
    const std::int64_t source_row = window.rows.source(i, tap_row);
    if (source_row < 0 || source_row >= window.rows.input) {
      continue;
    }
    T* line = plane + source_row * window.columns.input;
    for (std::int64_t j = first; j < last; ++j) {
      line[j * stride + shift] += row[j];
    }
  }
}

// x (samples, C, H, W) -> patches (C KH KW, samples * OH OW).
template <typename T>
void unfold(const Convolution& convolution, std::int64_t samples, const T* x, T* patches) {
  const Window& window = convolution.window;
  for (std::int64_t c = 0; c < convolution.in_channels; ++c) {
    for (std::int64_t p = 0; p < window.rows.kernel; ++p) {
      for (std::int64_t q = 0; q < window.columns.kernel; ++q) {
        for (std::int64_t n = 0; n < samples; ++n, patches += window.output_plane()) {
          unfold_tap(window, p, q, x + (n * convolution.in_channels + c) * window.input_plane(),
                     patches);
        }
      }
    }
  }
}

// The adjoint of unfold, for one sample.
template <typename T>
void fold(const Convolution& convolution, const T* patches, T* x) {
  const Window& window = convolution.window;
  std::fill(x, x + convolution.in_channels * window.input_plane(), T{0});
  for (std::int64_t c = 0; c < convolution.in_channels; ++c, x += window.input_plane()) {
    for (std::int64_t p = 0; p < window.rows.kernel; ++p) {
      for (std::int64_t q = 0; q < window.columns.kernel; ++q, patches += window.output_plane()) {
        fold_tap(window, p, q, patches, x);
      }
    }
  }
}

// (outer, inner, plane) -> (inner, outer, plane): batch-major images to channel-major columns and
// back.
template <typename T>
void swap_leading_axes(std::int64_t outer, std::int64_t inner, std::int64_t plane, const T* from,
                       T* to) {
  for (std::int64_t i = 0; i < outer; ++i) {
    for (std::int64_t j = 0; j < inner; ++j) {
      std::copy_n(from + (i * inner + j) * plane, plane, to + (j * outer + i) * plane);
    }
  }
}

template <typename T>
class GemmConvolution final : public Kernel {
 public:
  GemmConvolution(ConvolutionPass pass, const Convolution& convolution)
      : pass_(pass), convolution_(convolution), block_(samples_per_block(pass, convolution)) {}

  std::int64_t workspace_bytes() const override {
    return static_cast<std::int64_t>(sizeof(T)) *
           (patch_elements() + column_elements() + filter_elements());
  }

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> workspace) const override {
    const T* first = inputs[0].data<T>().data();
    const T* second = inputs[1].data<T>().data();
    const std::span<T> output = outputs[0].mutable_data<T>();
    if (convolution_.batch == 0 || inputs[0].num_elements() == 0 || inputs[1].num_elements() == 0) {
      std::fill(output.begin(), output.end(), T{0});
      return;
    }
    T* patches = reinterpret_cast<T*>(workspace.data());
    for (std::int64_t n = 0; n < convolution_.batch; n += block_) {
      switch (pass_) {
        case ConvolutionPass::kForward:
          forward(first + n * input_size(), second, output.data() + n * output_size(), patches);
          break;
        case ConvolutionPass::kBackwardInput:
          backward_input(first + n * output_size(), second, output.data() + n * input_size(),
                         patches);
          break;
        case ConvolutionPass::kBackwardFilter:
          backward_filter(n, first + n * input_size(), second + n * output_size(), output, patches);
          break;
      }
    }
  }

 private:
  std::int64_t input_size() const {
    return convolution_.in_channels * convolution_.window.input_plane();
  }
  std::int64_t output_size() const {
    return convolution_.out_channels * convolution_.window.output_plane();
  }
  std::int64_t columns(std::int64_t samples) const {
    return samples * convolution_.window.output_plane();
  }
  static std::int64_t padded(std::int64_t elements) { return (elements + 15) / 16 * 16; }
  std::int64_t patch_elements() const {
    return padded(convolution_.patch_size() * columns(block_));
  }
  std::int64_t column_elements() const { return padded(block_ > 1 ? block_ * output_size() : 0); }
  std::int64_t filter_elements() const {
    const bool several = pass_ == ConvolutionPass::kBackwardFilter && convolution_.batch > block_;
    return several ? padded(convolution_.out_channels * convolution_.patch_size()) : 0;
  }

  // dy of a block as (O, samples * OH OW).
  const T* gathered(std::int64_t samples, const T* dy, T* columns_buffer) const {
    if (samples == 1) {
      return dy;
    }
    swap_leading_axes(samples, convolution_.out_channels, convolution_.window.output_plane(), dy,
                      columns_buffer);
    return columns_buffer;
  }

  void forward(const T* x, const T* filter, T* y, T* patches) const {
    unfold(convolution_, 1, x, patches);
    gemm_eigen({.m = convolution_.out_channels, .n = columns(1), .k = convolution_.patch_size()},
               filter, patches, y);
  }

  void backward_input(const T* dy, const T* filter, T* dx, T* patches) const {
    gemm_eigen({.m = convolution_.patch_size(),
                .n = columns(1),
                .k = convolution_.out_channels,
                .transpose_a = true},
               filter, dy, patches);
    fold(convolution_, patches, dx);
  }

  // Of the block that starts at sample n; x and dy point to it.
  void backward_filter(std::int64_t n, const T* x, const T* dy, std::span<T> dfilter,
                       T* patches) const {
    const std::int64_t samples = std::min(block_, convolution_.batch - n);
    const T* left = gathered(samples, dy, patches + patch_elements());
    T* product = n == 0 ? dfilter.data() : patches + patch_elements() + column_elements();
    unfold(convolution_, samples, x, patches);
    gemm_eigen({.m = convolution_.out_channels,
                .n = convolution_.patch_size(),
                .k = columns(samples),
                .transpose_b = true},
               left, patches, product);
    if (n != 0) {
      std::transform(dfilter.begin(), dfilter.end(), product, dfilter.begin(),
                     [](T a, T b) { return a + b; });
    }
  }

  ConvolutionPass pass_;
  Convolution convolution_;
  std::int64_t block_;
};

}  // namespace

Shape Convolution::input_shape() const {
  return {batch, in_channels, window.rows.input, window.columns.input};
}

Shape Convolution::filter_shape() const {
  return {out_channels, in_channels, window.rows.kernel, window.columns.kernel};
}

Shape Convolution::output_shape() const {
  return {batch, out_channels, window.rows.output, window.columns.output};
}

double Convolution::flops() const {
  return 2.0 * static_cast<double>(batch) * static_cast<double>(out_channels) *
         static_cast<double>(window.output_plane()) * static_cast<double>(patch_size());
}

Convolution make_convolution(std::string_view op, const Shape& input, const Shape& filter,
                             const Attributes& attributes) {
  if (input.rank() != 4) {
    throw InvalidArgument(
        op, fmt::format("input: got shape {}, expected (N, C, H, W)", input.to_string()));
  }
  if (filter.rank() != 4) {
    throw InvalidArgument(
        op, fmt::format("filter: got shape {}, expected (O, C, KH, KW)", filter.to_string()));
  }
  if (filter[1] != input[1]) {
    throw InvalidArgument(
        op, fmt::format("channels: got filter {} for {}, expected as many as input {} has, {}",
                        filter.to_string(), filter[1], input.to_string(), input[1]));
  }
  return {input[0], input[1], filter[0],
          make_window(op, attributes, filter[2], filter[3], input[2], input[3])};
}

std::unique_ptr<Kernel> make_gemm_convolution(ConvolutionPass pass, const Convolution& convolution,
                                              DType dtype) {
  if (dtype == DType::kFloat32) {
    return std::make_unique<GemmConvolution<float>>(pass, convolution);
  }
  SUPERSTEP_CHECK(dtype == DType::kFloat64, "convolution of", name_of(dtype));
  return std::make_unique<GemmConvolution<double>>(pass, convolution);
}

}  // namespace superstep::kernels
