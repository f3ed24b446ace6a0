// Clients whose data lie at sites, each of which one rank alone opens: the data mode "strict".
//
//   sites/site-0/train-images-idx3-ubyte    the site's samples, plain or with .gz
//                train-labels-idx1-ubyte
//                clients.tsv                 which of them belong to whom (partition_file.h)
//   sites/site-1/...
//
//   const auto clients = read_sites(world, {.directory = "sites/site-{site}", .num_sites = 4,
//   ...});
//
// Rank r of p opens sites [r S / p, (r + 1) S / p) of S and no others. Clients are numbered site
// after site, in the order in which their site names them, so they are the same, and so is what is
// trained, for every number of ranks; a client's samples can be read by the rank of its site alone.
//
// What the ranks tell each other, and all that leaves a site here: per site the numbers of clients
// and samples and an XXH3-128 of the content; per client the number of samples and 64 bits of the
// hash of its name, by which a client of two sites is noticed.
//
// Memory: 4 bytes per client on every rank, 16 more per client and 4 per sample of the rank's own
// sites; 16 bytes per client in passing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "bsp/world.h"
#include "kernels/shape.h"
#include "worker/federated/client_data.h"

namespace superstep::worker {

inline constexpr const char* kSiteClientsFile = "clients.tsv";

struct SiteOptions {
  std::string directory;  // "{site}" in it stands for 0 to num_sites - 1
  std::int64_t num_sites = 1;
  std::string client_column = "client";
  kernels::Shape sample_shape;  // that all sites must have
  int num_classes = 10;
};

std::string site_directory(const std::string& pattern, std::int64_t site);
// The rank that opens the site.
int rank_of_site(std::int64_t site, std::int64_t num_sites, int num_ranks);

// Collective. Throws InvalidArgument when the pattern has no "{site}"; DataError, on the rank that
// opens it, for a site that cannot be read, has no client or other samples; DataError on all ranks
// for a client of two sites.
std::shared_ptr<const ClientData> read_sites(bsp::World& world, const SiteOptions& options);

}  // namespace superstep::worker
