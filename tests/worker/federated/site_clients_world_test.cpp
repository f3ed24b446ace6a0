// Data of sites: who opens what, and the bits of a run whose ranks hold their own sites only.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/error.h"
#include "tests/support/error_text.h"
#include "tests/support/spmd_fixture.h"
#include "tests/support/world_directory.h"
#include "tests/worker/federated/federated_support.h"
#include "worker/federated/site_clients.h"
#include "worker/federated/site_files.h"

namespace superstep::worker {
namespace {

using testing::error_text;
using testing::run_federated;
using testing::small_clients;
using testing::small_model;
using testing::small_options;
using testing::WorldDirectory;

constexpr PartitionOptions kElevenClients{
    .kind = PartitionKind::kDirichlet, .num_clients = 11, .alpha = 0.5, .seed = 2};

SiteOptions sites_in(const std::filesystem::path& directory, std::int64_t num_sites) {
  return {.directory = (directory / "site-{site}").native(),
          .num_sites = num_sites,
          .client_column = "client",
          .sample_shape = {1, 8, 8},
          .num_classes = 5};
}

// Collective.
void make_sites(bsp::World& world, const std::filesystem::path& directory, std::int64_t num_sites) {
  if (world.rank() == 0) {
    write_sites(*small_clients(kElevenClients), num_sites, directory / "site-{site}");
  }
  world.sync();
}

std::string error_of_sites(bsp::World& world, const SiteOptions& options) {
  return error_text<Error>([&] { read_sites(world, options); });
}

SUPERSTEP_WORLD_TEST_ON_NODES(SiteClients, GiveTheBitsOfSharedDataForEveryNumberOfSitesAndRanks) {
  const Model model = small_model();
  FederatedOptions options = small_options();
  options.rounds = 6;
  options.evaluate_clients_every_rounds = 6;
  bsp::World alone = world.split(world.rank(), 0);
  const FederatedResult oracle =
      run_federated(alone, model, small_clients(kElevenClients), options).result;
  options.data_mode = DataMode::kStrict;
  for (const std::int64_t num_sites : {1, 3, 4, 11}) {
    const WorldDirectory directory(world);
    make_sites(world, directory.path(), num_sites);
    const auto clients = read_sites(world, sites_in(directory.path(), num_sites));
    EXPECT_EQ(clients->num_clients(), 11);
    EXPECT_EQ(clients->total_samples(), 200);
    const FederatedResult result = run_federated(world, model, clients, options).result;
    EXPECT_EQ(to_text(result.parameters_hash), to_text(oracle.parameters_hash)) << num_sites;
    ASSERT_TRUE(result.clients.has_value() && oracle.clients.has_value());
    EXPECT_EQ(result.clients->accuracy_all.mean, oracle.clients->accuracy_all.mean);
    EXPECT_EQ(result.clients->accuracy_cohort.median, oracle.clients->accuracy_cohort.median);
    world.sync();
  }
}

// Every site lies where its rank alone finds it: another rank that looked for it would fail.
SUPERSTEP_WORLD_TEST(SiteClients, AreOpenedByTheRankOfTheirSiteAlone) {
  const WorldDirectory directory(world);
  constexpr std::int64_t kSites = 5;
  make_sites(world, directory.path(), kSites);
  const std::filesystem::path own = directory.path() / ("rank-" + std::to_string(world.rank()));
  std::filesystem::create_directory(own);
  world.sync();
  for (std::int64_t site = 0; site < kSites; ++site) {
    if (rank_of_site(site, kSites, world.size()) == world.rank()) {
      const std::string name = "site-" + std::to_string(site);
      std::filesystem::rename(directory.path() / name, own / name);
    }
  }
  world.sync();
  const auto clients = read_sites(world, sites_in(own, kSites));
  EXPECT_EQ(clients->num_clients(), 11);
  std::int64_t mine = 0;
  for (std::int64_t client = 0; client < 11; ++client) {
    std::vector<float> image(64);
    const std::int64_t position = 0;
    std::int64_t label = 0;
    std::int64_t id = 0;
    const auto read = [&] {
      clients->read(client, {&position, 1}, Normalization::unit(), image, {&label, 1}, {&id, 1});
    };
    if (clients->owner(client, world.size()) == world.rank()) {
      read();
      ++mine;
    } else {
      EXPECT_ANY_THROW(read()) << "client " << client << " of another rank was read";
    }
  }
  EXPECT_EQ(world.allreduce(mine, bsp::ReduceOp::kSum), 11);
}

SUPERSTEP_WORLD_TEST(SiteClients, RefuseAClientOfTwoSites) {
  const WorldDirectory directory(world);
  make_sites(world, directory.path(), 4);
  const auto file = directory.path() / "site-3" / kSiteClientsFile;
  if (world.rank() == 0) {
    // The last client of site 3 becomes client 0, whom site 0 has.
    std::ifstream in(file);
    std::string text((std::istreambuf_iterator<char>(in)), {});
    for (std::size_t at = text.find("\t10\n"); at != std::string::npos; at = text.find("\t10\n")) {
      text.replace(at, 4, "\t0\n");
    }
    std::ofstream(file) << text;
  }
  world.sync();
  const std::string error = error_of_sites(world, sites_in(directory.path(), 4));
  EXPECT_NE(error.find("a client belongs to two sites: got the same name for client 0 of site 0 "
                       "and client 2 of site 3"),
            std::string::npos)
      << error;
  world.sync();
}

TEST(SiteClients, EveryRankOwnsAPieceOfTheSites) {
  for (const int ranks : {1, 2, 3, 4, 7}) {
    for (const std::int64_t sites : {1, 2, 3, 5, 8, 100}) {
      for (std::int64_t site = 0; site < sites; ++site) {
        const int rank = rank_of_site(site, sites, ranks);
        EXPECT_LE(rank * sites / ranks, site);
        EXPECT_LT(site, (rank + 1) * sites / ranks);
      }
    }
  }
}

TEST(SiteClients, ADirectoryNamesItsSite) {
  EXPECT_EQ(site_directory("a/site-{site}/data", 12), "a/site-12/data");
  EXPECT_THROW(site_directory("a/site", 0), InvalidArgument);
}

TEST(SiteFiles, AreRefusedForMoreSitesThanClients) {
  EXPECT_THROW(write_sites(*small_clients(kElevenClients), 12, "unused-{site}"), InvalidArgument);
}

}  // namespace
}  // namespace superstep::worker
