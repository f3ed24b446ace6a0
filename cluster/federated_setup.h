// What a federated run is made of: the parts of every run (cluster/setup.h), the clients, and the
// options of the rounds.
#pragma once

#include <memory>
#include <string>

#include "cluster/config_reader.h"
#include "cluster/setup.h"
#include "worker/federated/client_data.h"
#include "worker/federated/federated_trainer.h"

namespace superstep::cluster {

struct FederatedSetup {
  RunSetup run;
  std::shared_ptr<const worker::ClientData> clients;       // what they train on
  std::shared_ptr<const worker::ClientData> client_tests;  // what they keep; may be null
  std::shared_ptr<const worker::ClientData> held_out;      // may be null
  worker::FederatedOptions options;                        // without directories
};

// Throws as make_setup does, and InvalidArgument where partition, cohort, algorithm and ring do not
// fit the data: everything that a first round could stumble over.
FederatedSetup make_federated_setup(const ParsedConfig& parsed, Begin begin);

}  // namespace superstep::cluster
