#include "worker/federated/site_files.h"

#include <array>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/file.h"
#include "worker/data/idx_write.h"
#include "worker/federated/site_clients.h"

namespace superstep::worker {

namespace {

void write_site(const ClientData& clients, std::int64_t first, std::int64_t last,
                const std::filesystem::path& directory) {
  std::int64_t num_samples = 0;
  for (std::int64_t client = first; client < last; ++client) {
    num_samples += clients.num_samples(client);
  }
  make_directories(directory);
  IdxPartWriter part(directory, "train", clients.sample_shape(), num_samples);
  std::string rows = "index\tclient\n";
  std::vector<float> sample(as_size(clients.sample_shape().num_elements()));
  std::int64_t index = 0;
  for (std::int64_t client = first; client < last; ++client) {
    for (std::int64_t position = 0; position < clients.num_samples(client); ++position) {
      std::int64_t label = 0;
      std::int64_t id = 0;
      clients.read(client, {&position, 1}, Normalization::none(), sample, {&label, 1}, {&id, 1});
      part.add(sample, label);
      rows += fmt::format("{}\t{}\n", index++, client);
    }
  }
  part.commit();
  write_file_atomically(directory / kSiteClientsFile, rows);
}

}  // namespace

void write_sites(const ClientData& clients, std::int64_t num_sites,
                 const std::filesystem::path& pattern) {
  const std::int64_t num_clients = clients.num_clients();
  if (num_sites < 1 || num_sites > num_clients) {
    throw InvalidArgument("write_sites", fmt::format("sites: got {}, expected 1 to {}, so that "
                                                     "every site has a client",
                                                     num_sites, num_clients));
  }
  for (std::int64_t site = 0; site < num_sites; ++site) {
    write_site(clients, site * num_clients / num_sites, (site + 1) * num_clients / num_sites,
               site_directory(pattern.native(), site));
  }
}

}  // namespace superstep::worker
