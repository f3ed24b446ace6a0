// Update rules as pure functions on a span of a shard. Their state is declared as named arrays.
//
// All rules are elementwise: an update of a range is the concatenation of updates of its parts, bit
// for bit, so shards, masks and tiles may cut anywhere, at any alignment. Scalars (bias
// corrections, 1 - beta) are computed in double and rounded to T once; elements are computed in T.
// Cost: one pass over the spans.
//
//   sgd        p -= lr (g + wd p)
//   momentum   v = mu v + g';  p -= lr v                      (Polyak 1964, as in torch.optim.SGD)
//   nesterov   v = mu v + g';  p -= lr (g' + mu v)
//   adagrad    a += g'^2;      p -= lr g' / (sqrt(a) + eps)   (Duchi et al. 2011)
//   adam       m, v, bias-corrected                            (Kingma and Ba 2015)
//   adamw      adam with decoupled weight decay                (Loshchilov and Hutter 2019)
// with g' = g + wd p (adamw: g' = g, and p is multiplied by 1 - lr wd first). adam and adamw are
//   m = b1 m + (1 - b1) g';  v = b2 v + (1 - b2) g'^2;
//   p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
//
//   std::vector<float> velocity(n);                    // filled with
//   state_arrays(spec)[0].initial_value const std::array<std::span<float>, 1> states{velocity};
//   update<float>(spec, {.step = 1, .learning_rate = 0.1}, gradient, parameters, states);
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace superstep::paramserver {

enum class OptimizerKind : std::uint8_t { kSgd, kMomentum, kNesterov, kAdagrad, kAdam, kAdamW };

struct OptimizerSpec {
  OptimizerKind kind = OptimizerKind::kMomentum;
  double learning_rate = 0.05;
  double momentum = 0.9;  // momentum, nesterov
  double beta1 = 0.9;     // adam, adamw
  double beta2 = 0.999;
  double epsilon = 1e-8;  // adagrad (1e-10 is the field's default there), adam, adamw
  double weight_decay = 0.0;
  double initial_accumulator = 0.0;  // adagrad

  friend bool operator==(const OptimizerSpec&, const OptimizerSpec&) = default;
};

std::string_view name_of(OptimizerKind kind);
OptimizerKind optimizer_kind(
    std::string_view name);                // throws InvalidArgument with the nearest name
void validate(const OptimizerSpec& spec);  // throws InvalidArgument naming key and range

struct StateArray {
  std::string name = {};  // "momentum"
  double initial_value = 0.0;
};
// In the order of the algorithm: "momentum" | "accumulator" | "first_moment", "second_moment".
std::vector<StateArray> state_arrays(const OptimizerSpec& spec);
int num_state_arrays(OptimizerKind kind);

struct UpdateStep {
  std::int64_t step = 1;       // 1 for the first update (bias correction)
  double learning_rate = 0.0;  // after the schedule
  bool decayed = true;         // whether weight decay applies to these elements
};

// gradient is the mean gradient. states[i] belongs to state_arrays(spec)[i]; all spans have equal
// length and do not overlap. `spec.learning_rate` is not looked at: the rate is step.learning_rate.
// NaN and infinity in the gradient go into the parameters; whoever wants to stop there checks
// before.
template <typename T>
void update(const OptimizerSpec& spec, const UpdateStep& step, std::span<const T> gradient,
            std::span<T> parameters, std::span<const std::span<T>> states);
extern template void update<float>(const OptimizerSpec&, const UpdateStep&, std::span<const float>,
                                   std::span<float>, std::span<const std::span<float>>);
extern template void update<double>(const OptimizerSpec&, const UpdateStep&,
                                    std::span<const double>, std::span<double>,
                                    std::span<const std::span<double>>);

}  // namespace superstep::paramserver
