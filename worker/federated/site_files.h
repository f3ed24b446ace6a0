// Divides the clients of one data set among sites, as files that read_sites (site_clients.h) reads.
#pragma once

#include <cstdint>
#include <filesystem>

#include "worker/federated/client_data.h"

namespace superstep::worker {

// Site s of S gets clients [s N / S, (s + 1) N / S) with their samples, in the directory that
// `pattern` names for s; a client is named by its number, so that all keep their numbers. Throws
// InvalidArgument for more sites than clients, and for samples that are no bytes.
void write_sites(const ClientData& clients, std::int64_t num_sites,
                 const std::filesystem::path& pattern);

}  // namespace superstep::worker
