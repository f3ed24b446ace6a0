#include "kernels/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/channel_sums.h"
#include "kernels/dispatch.h"

namespace superstep::kernels {
namespace {

// y may be x, dx may be grad or x: each element is read before it is written (hence ivdep).

// y = (x - mean) factor + beta for the channels [first, first + some); the parameters start at
// `first`.
template <typename T>
void normalise(const ChannelView& view, std::int64_t first, std::int64_t some, const T* x,
               const T* mean, const T* factor, const T* beta, T* y) {
  for (std::int64_t n = 0; n < view.batch; ++n) {
    const std::int64_t begin = view.offset(n, first);
    if (view.plane == 1) {
#pragma GCC ivdep
      for (std::int64_t c = 0; c < some; ++c) {
        y[begin + c] = (x[begin + c] - mean[c]) * factor[c] + beta[c];
      }
      continue;
    }
    for (std::int64_t c = 0; c < some; ++c) {
      const T m = mean[c];
      const T f = factor[c];
      const T b = beta[c];
      const std::int64_t offset = begin + c * view.plane;
#pragma GCC ivdep
      for (std::int64_t i = offset; i < offset + view.plane; ++i) {
        y[i] = (x[i] - m) * f + b;
      }
    }
  }
}

// dx = a g + b (x - mean) + c, the three factors per channel.
template <typename T>
void combine(const ChannelView& view, std::int64_t first, std::int64_t some, const T* grad,
             const T* x, const T* mean, const T* of_grad, const T* of_x, const T* constant, T* dx) {
  for (std::int64_t n = 0; n < view.batch; ++n) {
    const std::int64_t begin = view.offset(n, first);
    if (view.plane == 1) {
#pragma GCC ivdep
      for (std::int64_t c = 0; c < some; ++c) {
        dx[begin + c] =
            of_grad[c] * grad[begin + c] + of_x[c] * (x[begin + c] - mean[c]) + constant[c];
      }
      continue;
    }
    for (std::int64_t c = 0; c < some; ++c) {
      const T m = mean[c];
      const T a = of_grad[c];
      const T b = of_x[c];
      const T k = constant[c];
      const std::int64_t offset = begin + c * view.plane;
#pragma GCC ivdep
      for (std::int64_t i = offset; i < offset + view.plane; ++i) {
        dx[i] = a * grad[i] + b * (x[i] - m) + k;
      }
    }
  }
}

// Works on one block of channels at a time, so that a block's samples stay in cache between the
// passes.
class NormKernel : public Kernel {
 public:
  NormKernel(const TensorType& x, double epsilon)
      : view_(ChannelView::of(x.shape)), epsilon_(epsilon), dtype_(x.dtype) {}

  // Four numbers per channel of a block, the widest type for all.
  std::int64_t workspace_bytes() const override {
    return kSlots * view_.channels_per_block() * static_cast<std::int64_t>(sizeof(double));
  }

 protected:
  static constexpr std::int64_t kSlots = 4;

  template <typename T>
  T* slot(std::span<std::byte> workspace, std::int64_t index) const {
    return reinterpret_cast<T*>(workspace.data() + index * view_.channels_per_block() *
                                                       static_cast<std::int64_t>(sizeof(double)));
  }
  template <typename Function>
  void for_each_block(const Function& function) const {
    const std::int64_t some = view_.channels_per_block();
    for (std::int64_t first = 0; first < view_.channels; first += some) {
      function(first, some);
    }
  }
  double inverse_deviation(double variance) const { return 1.0 / std::sqrt(variance + epsilon_); }
  double divisor() const { return static_cast<double>(std::max<std::int64_t>(1, view_.count())); }

  ChannelView view_;
  double epsilon_;
  DType dtype_;
};

class TrainingKernel final : public NormKernel {
 public:
  using NormKernel::NormKernel;

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> workspace) const override {
    dispatch_floating(dtype_, [&]<typename T>() {
      const T* x = inputs[0].data<T>().data();
      T* mean = outputs[1].mutable_data<T>().data();
      T* variance = outputs[2].mutable_data<T>().data();
      double* sums = slot<double>(workspace, 0);
      T* factor = slot<T>(workspace, 1);
      for_each_block([&](std::int64_t first, std::int64_t some) {
        channel_sums(view_, first, some, x, sums);
        for (std::int64_t c = 0; c < some; ++c) {
          mean[first + c] = static_cast<T>(sums[c] / divisor());
        }
        channel_sums_of_squares(view_, first, some, x, mean + first, sums);
        for (std::int64_t c = 0; c < some; ++c) {
          const double biased = sums[c] / divisor();
          variance[first + c] = static_cast<T>(biased);
          factor[c] = static_cast<T>(static_cast<double>(inputs[1].data<T>()[first + c]) *
                                     inverse_deviation(biased));
        }
        normalise(view_, first, some, x, mean + first, factor, inputs[2].data<T>().data() + first,
                  outputs[0].mutable_data<T>().data());
      });
    });
  }
};

class InferenceKernel final : public NormKernel {
 public:
  using NormKernel::NormKernel;

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> workspace) const override {
    dispatch_floating(dtype_, [&]<typename T>() {
      const std::span<const T> gamma = inputs[1].data<T>();
      const std::span<const T> variance = inputs[4].data<T>();
      T* factor = slot<T>(workspace, 0);
      for_each_block([&](std::int64_t first, std::int64_t some) {
        for (std::int64_t c = 0; c < some; ++c) {
          factor[c] = static_cast<T>(static_cast<double>(gamma[first + c]) *
                                     inverse_deviation(static_cast<double>(variance[first + c])));
        }
        normalise(view_, first, some, inputs[0].data<T>().data(),
                  inputs[3].data<T>().data() + first, factor, inputs[2].data<T>().data() + first,
                  outputs[0].mutable_data<T>().data());
      });
    });
  }
};

// With s = 1 / sqrt(variance + epsilon), m = N H W and xh = (x - mean) s:
//   dbeta = sum g,  dgamma = sum g xh,  dx = gamma s (g - dbeta / m - xh dgamma / m).
class BackwardKernel final : public NormKernel {
 public:
  using NormKernel::NormKernel;

  void run(std::span<const Tensor> inputs, std::span<Tensor> outputs,
           std::span<std::byte> workspace) const override {
    dispatch_floating(dtype_, [&]<typename T>() {
      const T* grad = inputs[0].data<T>().data();
      const T* x = inputs[1].data<T>().data();
      const T* mean = inputs[3].data<T>().data();
      double* sums = slot<double>(workspace, 0);
      T* of_grad = slot<T>(workspace, 1);
      T* of_x = slot<T>(workspace, 2);
      T* constant = slot<T>(workspace, 3);
      for_each_block([&](std::int64_t first, std::int64_t some) {
        channel_sums(view_, first, some, grad, sums);
        for (std::int64_t c = 0; c < some; ++c) {
          const double a =
              scale_of<T>(inputs, first + c) * static_cast<double>(inputs[2].data<T>()[first + c]);
          outputs[2].mutable_data<T>()[first + c] = static_cast<T>(sums[c]);
          of_grad[c] = static_cast<T>(a);
          constant[c] = static_cast<T>(-a * sums[c] / divisor());
        }
        channel_sums_of_products(view_, first, some, grad, x, mean + first, sums);
        for (std::int64_t c = 0; c < some; ++c) {
          const double s = scale_of<T>(inputs, first + c);
          const double gamma = static_cast<double>(inputs[2].data<T>()[first + c]);
          outputs[1].mutable_data<T>()[first + c] = static_cast<T>(sums[c] * s);
          of_x[c] = static_cast<T>(-gamma * s * s * s * sums[c] / divisor());
        }
        combine(view_, first, some, grad, x, mean + first, of_grad, of_x, constant,
                outputs[0].mutable_data<T>().data());
      });
    });
  }

 private:
  template <typename T>
  double scale_of(std::span<const Tensor> inputs, std::int64_t channel) const {
    return inverse_deviation(static_cast<double>(inputs[4].data<T>()[channel]));
  }
};

}  // namespace

std::unique_ptr<Kernel> make_batch_norm(BatchNormPass pass, const TensorType& x, double epsilon) {
  switch (pass) {
    case BatchNormPass::kTraining:
      return std::make_unique<TrainingKernel>(x, epsilon);
    case BatchNormPass::kBackward:
      return std::make_unique<BackwardKernel>(x, epsilon);
    case BatchNormPass::kInference:
      return std::make_unique<InferenceKernel>(x, epsilon);
  }
  superstep::internal::fail_check(__FILE__, __LINE__, "pass is one of three", "");
}

}  // namespace superstep::kernels
