// Clients whose features differ: Gaussian noise on what a client reads, stronger from client to
// client.
//
//   auto noisy = noisy_clients(clients, {.deviation = 0.5, .seed = 1});
//
// Client k of N sees every value of its samples plus noise of deviation `deviation * (k + 1) / N`
// (Li et al. 2022, NIID-Bench, "noise-based feature imbalance"; the paper calls sigma i / N the
// variance, its program uses it as the deviation, as here). It is measured in units in which bytes
// are 0 to 1, before mean and deviation are taken out; values are not clamped. With
// Normalization::none() in the units of the file.
//
// The noise of a sample is a function of (seed, client, sample): it is the same in every epoch and
// on every rank. Samples are stored as they are. Cost of a read: one normal number per value, which
// for a small model is as much as training on it.
#pragma once

#include <cstdint>
#include <memory>

#include "worker/federated/client_data.h"

namespace superstep::worker {

struct FeatureNoiseOptions {
  double deviation = 0.1;  // of the last client
  std::uint64_t seed = 1;
};

// Throws InvalidArgument for a deviation that is negative or no number.
std::shared_ptr<const ClientData> noisy_clients(std::shared_ptr<const ClientData> clients,
                                                const FeatureNoiseOptions& options);

}  // namespace superstep::worker
