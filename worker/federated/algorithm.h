// The algorithms of federated training, as settings of one round.
//
// A client starts at the global model w0 and makes steps
//
//   w -= rate * (a * g + mu * (w - w0) + v)          g: mean gradient of the batch
//
//   algorithm       a         mu      v           server
//   fedsgd          1         0       -           mean; one step on the whole local set
//   fedavg          1         0       -           mean                       (McMahan et al. 2017)
//   fedprox         1         mu      -           mean                       (Li et al. 2020)
//   fedavgm         1         0       -           momentum                   (Hsu et al. 2019)
//   fedadagrad ...  1         0       -           adagrad, adam, yogi        (Reddi et al. 2021)
//   scaffold        1         0       c - c_i     mean, uniform weights      (Karimireddy et al.
//   2020) fednova         1         0       -           mean of updates per step   (Wang et al.
//   2020) feddyn          1         alpha   -h_i        mean minus h / alpha       (Acar et al.
//   2021) qfedavg         1         0       -           weights loss^q             (Li et al. 2020,
//   q-FFL) mimelite        1 - beta  0       beta * m    mean; m is the server's    (Karimireddy et
//   al. 2021)
//
// c_i and h_i are the client's state (worker/federated/client_store.h).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "paramserver/federated_server.h"

namespace superstep::worker {

enum class Algorithm : std::uint8_t {
  kFedSgd,
  kFedAvg,
  kFedProx,
  kFedAvgM,
  kFedAdagrad,
  kFedAdam,
  kFedYogi,
  kScaffold,
  kFedNova,
  kFedDyn,
  kQFedAvg,
  kMimeLite,
};

std::span<const std::string_view> algorithm_names();
std::string_view name_of(Algorithm algorithm);
Algorithm algorithm_of(std::string_view name);  // throws InvalidArgument with the nearest name

// How much a client counts in the mean.
enum class Weighting : std::uint8_t { kSamples, kUniform };
std::string_view name_of(Weighting weighting);

struct AlgorithmOptions {
  Algorithm kind = Algorithm::kFedAvg;
  Weighting weighting = Weighting::kSamples;  // kScaffold, kFedDyn and kQFedAvg are uniform
  double mu = 0.01;                           // kFedProx
  double alpha = 0.01;                        // kFedDyn
  double q = 1.0;                             // kQFedAvg
  double beta = 0.9;                          // kMimeLite
  // Rate of every server's step, and the constants of its rule; the kind of rule is the
  // algorithm's.
  paramserver::ServerRule server;
};

// Throws InvalidArgument that names the field.
void validate(const AlgorithmOptions& options);

paramserver::FederatedServerOptions server_options(const AlgorithmOptions& options);
Weighting effective_weighting(const AlgorithmOptions& options);
bool has_client_state(Algorithm algorithm);
// Whether a round sums up more than one weighted update per client, or weights that depend on other
// clients or on losses.
bool sends_more_than_its_update(Algorithm algorithm);

}  // namespace superstep::worker
