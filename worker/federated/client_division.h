// Every client's samples, divided into what it trains on and what it is judged on.
//
//   DividedClients parts = divide_clients(clients, {.test_fraction = 0.2, .seed = 1});
//   FederatedTrainer trainer(world, model, parts.train, options);
//   trainer.fit(test, held_out, parts.test);
//
// Client k of both parts is client k of `clients`. Of n samples round(n * test_fraction) are for
// tests, but at most n - 1: a client always has something to train on, and a small one may have
// nothing to be judged on. A function of (clients, options): the same on every rank.
//
// Memory: 16 bytes per client, and with kRandom 4 bytes per sample, once for both parts.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "worker/federated/client_data.h"

namespace superstep::worker {

enum class ClientSplit : std::uint8_t {
  kRandom,  // test samples are drawn, keyed by (seed, client)
  kLast,    // they are the client's last ones: for samples in the order of time
};
std::string_view name_of(ClientSplit split);

struct DivisionOptions {
  double test_fraction = 0.2;
  ClientSplit split = ClientSplit::kRandom;
  std::uint64_t seed = 1;
};

struct DividedClients {
  std::shared_ptr<const ClientData> train;
  std::shared_ptr<const ClientData> test;  // num_samples may be 0
};

// Throws InvalidArgument unless 0 <= test_fraction < 1.
DividedClients divide_clients(const std::shared_ptr<const ClientData>& clients,
                              const DivisionOptions& options);

}  // namespace superstep::worker
