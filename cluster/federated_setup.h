// What a federated run is made of: the parts of every run (cluster/setup.h), the clients, and the
// options of the rounds.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cluster/config_reader.h"
#include "cluster/setup.h"
#include "worker/federated/client_data.h"
#include "worker/federated/federated_trainer.h"
#include "worker/federated/site_clients.h"

namespace superstep::cluster {

struct ClientParts {
  std::shared_ptr<const worker::ClientData> train;
  std::shared_ptr<const worker::ClientData> tests;  // what they keep for tests; may be null
};

struct FederatedSetup {
  RunSetup run;
  ClientParts clients;  // empty where the data lie at sites
  // With the samples that they keep for tests, and without noise: what sites hold.
  std::shared_ptr<const worker::ClientData> whole_clients;
  std::optional<worker::SiteOptions> sites;
  std::shared_ptr<const worker::ClientData> held_out;  // may be null
  worker::FederatedOptions options;                    // without directories
};

// Throws as make_setup does, and InvalidArgument where partition, cohort, algorithm and ring do not
// fit the data: everything that a first round could stumble over.
FederatedSetup make_federated_setup(const ParsedConfig& parsed, Begin begin);

// Collective. The clients as this rank can read them; with sites it reads its own now.
ClientParts clients_of_rank(bsp::World& world, const FederatedSetup& setup);
// setup.options, with devices for these clients where sites decide how many there are: their files
// are read now. Throws DataError for what is wrong with them.
worker::FederatedOptions options_for(const FederatedSetup& setup,
                                     const worker::ClientData& clients);

}  // namespace superstep::cluster
