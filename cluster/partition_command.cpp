#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "cluster/commands.h"
#include "cluster/federated_setup.h"
#include "cluster/run_opening.h"
#include "worker/data/idx_write.h"
#include "worker/federated/site_files.h"

namespace superstep::cluster {

namespace {

void require_new_or_empty(const std::filesystem::path& directory) {
  const PathStatus status = look_at(directory);
  std::error_code error;
  if (status.kind == PathKind::kMissing ||
      (status.kind == PathKind::kDirectory && std::filesystem::is_empty(directory, error))) {
    return;
  }
  throw InvalidArgument(
      "partition",
      fmt::format("--out {}: {}", directory.native(),
                  status.exists() ? "exists and is not an empty directory" : status.problem));
}

}  // namespace

Work prepare_partition(const PartitionArguments& arguments) {
  const std::filesystem::path out = arguments.out;
  require_new_or_empty(out);
  TrainArguments run;
  run.config = arguments.config;
  run.overrides = arguments.overrides;
  auto setup =
      std::make_shared<FederatedSetup>(make_federated_setup(parse_arguments(run), Begin::kFresh));
  const std::string& kind = setup->run.config.federated.partition;
  if (setup->whole_clients == nullptr || kind == "generated" || kind == "natural") {
    throw InvalidArgument("partition",
                          fmt::format("federated.partition = \"{}\" divides no data set", kind));
  }
  return [setup, out, sites = arguments.sites] {
    make_directories(out);
    worker::write_sites(*setup->whole_clients, sites, out / "site-{site}");
    worker::write_idx_part(*setup->run.data.parts.test, out, "t10k");
    fmt::print("{}: {} clients with {} samples at {} sites, and {} test samples\n", out.native(),
               grouped(setup->whole_clients->num_clients()),
               grouped(setup->whole_clients->total_samples()), sites,
               grouped(setup->run.data.parts.test->size()));
    return 0;
  };
}

}  // namespace superstep::cluster
