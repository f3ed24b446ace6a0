// What a federated server does with the mean update of a round: step on the model.
//
// The mean update d (weighted mean of local - global) is the negative pseudo-gradient of Reddi et
// al. 2021, "Adaptive Federated Optimization", algorithm 2:
//
//   sgd       w += rate * d                                    (FedAvg with rate 1)
//   momentum  m = momentum * m + d;  w += rate * m             (FedAvgM, Hsu et al. 2019)
//   adagrad   m = beta1 * m + (1 - beta1) * d;  v += d^2;                w += rate * m / (sqrt(v) +
//   tau) adam      as adagrad with v = beta2 * v + (1 - beta2) * d^2 yogi      as adagrad with v -=
//   (1 - beta2) * d^2 * sign(v - d^2)
//
// Without bias correction, as in that paper. Arithmetic is in double, state and model are float32,
// element by element, so the cut of shards never shows. With sgd and rate 1 a model w' that is a
// float32 comes out exact: w + (w' - w) rounds to w'.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace superstep::paramserver {

enum class ServerRuleKind : std::uint8_t { kSgd, kMomentum, kAdagrad, kAdam, kYogi };

std::string_view name_of(ServerRuleKind kind);

struct ServerRule {
  ServerRuleKind kind = ServerRuleKind::kSgd;
  double learning_rate = 1.0;
  double momentum = 0.9;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double tau = 1e-3;
  double initial_accumulator = 0.0;
  friend bool operator==(const ServerRule&, const ServerRule&) = default;
};

// Throws InvalidArgument that names the field.
void validate(const ServerRule& rule);

// Names of the rule's state arrays, and the value they start with.
struct ServerState {
  std::string_view name;
  double initial_value = 0.0;
};
std::vector<ServerState> state_arrays(const ServerRule& rule);

// states has one span per state array, each as long as mean and parameters.
void apply(const ServerRule& rule, std::span<const double> mean, std::span<float> parameters,
           std::span<const std::span<float>> states);

}  // namespace superstep::paramserver
