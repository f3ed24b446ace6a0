// Devices and asynchrony of a federated run from its configuration.
#pragma once

#include <cstdint>

#include "cluster/config.h"
#include "worker/federated/federated_trainer.h"

namespace superstep::cluster {

// Sets options.device, .timing and .asynchrony. Reads the files of profiles and trace; throws
// DataError for what is wrong with them.
void set_time_options(const FederatedSection& federated, std::int64_t num_clients,
                      worker::FederatedOptions& options);

}  // namespace superstep::cluster
