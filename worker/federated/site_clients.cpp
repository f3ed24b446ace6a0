#include "worker/federated/site_clients.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"
#include "worker/federated/partition_file.h"

namespace superstep::worker {

namespace {

constexpr const char* kReadSites = "read_sites";
constexpr std::string_view kSitePlaceholder = "{site}";

struct Site {
  std::shared_ptr<const ClientData> clients;
  std::vector<std::uint64_t> names;  // hashes, by client
};

// What is told of a site.
struct SiteSummary {
  std::uint64_t num_clients = 0;
  std::uint64_t num_samples = 0;
  std::uint64_t content_low = 0;
  std::uint64_t content_high = 0;
};
constexpr std::size_t kSummaryFields = 4;

Site read_site(const SiteOptions& options, std::int64_t site) {
  const std::string directory = site_directory(options.directory, site);
  const std::shared_ptr<const Dataset> dataset = idx_train_part(directory, options.num_classes);
  if (dataset->sample_shape() != options.sample_shape) {
    throw DataError(
        kReadSites, directory, -1,
        fmt::format("site {} has samples of another shape: got {}, expected {}", site,
                    dataset->sample_shape().to_string(), options.sample_shape.to_string()));
  }
  NamedPartition partition = read_named_partition(
      std::filesystem::path(directory) / kSiteClientsFile, dataset->size(), options.client_column);
  return {.clients = partitioned_clients(dataset, std::move(partition.index)),
          .names = std::move(partition.name_hashes)};
}

// The first site of a rank; that of rank p is the number of sites.
std::int64_t first_site(std::int64_t rank, std::int64_t num_sites, int num_ranks) {
  return rank * num_sites / num_ranks;
}

class SiteClients final : public ClientData {
 public:
  SiteClients(const SiteOptions& options, int num_ranks, const std::vector<SiteSummary>& sites,
              std::vector<std::uint32_t> samples_of_client)
      : shape_(options.sample_shape),
        num_classes_(options.num_classes),
        num_ranks_(num_ranks),
        samples_of_client_(std::move(samples_of_client)),
        own_(sites.size()) {
    Hasher hasher;
    for (const SiteSummary& site : sites) {
      first_client_.push_back(first_client_.back() + static_cast<std::int64_t>(site.num_clients));
      first_sample_.push_back(first_sample_.back() + static_cast<std::int64_t>(site.num_samples));
      hasher.update_integer(site.num_clients);
      hasher.update_integer(site.content_low);
      hasher.update_integer(site.content_high);
    }
    fingerprint_ = fmt::format("{} sites; {} clients, {}", sites.size(), num_clients(),
                               to_text(hasher.digest()));
  }

  void open(std::int64_t site, std::shared_ptr<const ClientData> clients) {
    own_[as_size(site)] = std::move(clients);
  }

  std::int64_t num_clients() const override {
    return static_cast<std::int64_t>(samples_of_client_.size());
  }
  std::int64_t num_samples(std::int64_t client) const override {
    return samples_of_client_[as_size(client)];
  }
  std::int64_t total_samples() const override { return first_sample_.back(); }
  kernels::Shape sample_shape() const override { return shape_; }
  int num_classes() const override { return num_classes_; }
  std::string fingerprint() const override { return fingerprint_; }
  int owner(std::int64_t client, int num_ranks) const override {
    SUPERSTEP_CHECK(num_ranks == num_ranks_, "ranks that the sites were divided among", num_ranks_,
                    num_ranks);
    return rank_of_site(site_of(client), num_sites(), num_ranks);
  }

  std::vector<std::span<const std::byte>> sample_memory() const override {
    std::vector<std::span<const std::byte>> all;
    for (const std::shared_ptr<const ClientData>& site : own_) {
      if (site != nullptr) {
        const auto memory = site->sample_memory();
        all.insert(all.end(), memory.begin(), memory.end());
      }
    }
    return all;
  }

  void read(std::int64_t client, std::span<const std::int64_t> positions,
            const Normalization& normalization, std::span<float> out,
            std::span<std::int64_t> labels, std::span<std::int64_t> ids) const override {
    const std::size_t site = as_size(site_of(client));
    SUPERSTEP_CHECK(own_[site] != nullptr, "client", client, "is of another rank: site", site);
    own_[site]->read(client - first_client_[site], positions, normalization, out, labels, ids);
    for (std::int64_t& id : ids) {
      id += first_sample_[site];
    }
  }

 private:
  std::int64_t num_sites() const { return static_cast<std::int64_t>(own_.size()); }
  std::int64_t site_of(std::int64_t client) const {
    SUPERSTEP_CHECK(client >= 0 && client < num_clients(), "client", client, "of", num_clients());
    return std::upper_bound(first_client_.begin(), first_client_.end(), client) -
           first_client_.begin() - 1;
  }

  kernels::Shape shape_;
  int num_classes_;
  int num_ranks_;
  std::vector<std::uint32_t> samples_of_client_;
  std::vector<std::int64_t> first_client_{0};  // by site, and the end
  std::vector<std::int64_t> first_sample_{0};
  std::vector<std::shared_ptr<const ClientData>> own_;  // by site; null: of another rank
  std::string fingerprint_;
};

SiteSummary summary_of(const Site& site) {
  const Hash128 content = hash_text(site.clients->fingerprint());
  return {.num_clients = static_cast<std::uint64_t>(site.clients->num_clients()),
          .num_samples = static_cast<std::uint64_t>(site.clients->total_samples()),
          .content_low = content.low,
          .content_high = content.high};
}

std::vector<SiteSummary> share_summaries(bsp::World& world, const std::vector<Site>& mine,
                                         std::int64_t num_sites) {
  std::vector<std::int64_t> counts;
  for (int rank = 0; rank < world.size(); ++rank) {
    counts.push_back(std::int64_t{kSummaryFields} * (first_site(rank + 1, num_sites, world.size()) -
                                                     first_site(rank, num_sites, world.size())));
  }
  std::vector<std::uint64_t> flat;
  for (const Site& site : mine) {
    const SiteSummary summary = summary_of(site);
    flat.insert(flat.end(), {summary.num_clients, summary.num_samples, summary.content_low,
                             summary.content_high});
  }
  std::vector<std::uint64_t> all(kSummaryFields * as_size(num_sites));
  world.allgather(std::span<const std::uint64_t>(flat), std::span<std::uint64_t>(all), counts);
  std::vector<SiteSummary> summaries;
  for (std::size_t at = 0; at < all.size(); at += kSummaryFields) {
    summaries.push_back({all[at], all[at + 1], all[at + 2], all[at + 3]});
  }
  return summaries;
}

std::vector<std::int64_t> clients_of_ranks(const std::vector<SiteSummary>& sites, int num_ranks) {
  const auto num_sites = static_cast<std::int64_t>(sites.size());
  std::vector<std::int64_t> counts(as_size(num_ranks), 0);
  for (std::int64_t site = 0; site < num_sites; ++site) {
    counts[as_size(rank_of_site(site, num_sites, num_ranks))] +=
        static_cast<std::int64_t>(sites[as_size(site)].num_clients);
  }
  return counts;
}

template <typename T>
std::vector<T> share_by_client(bsp::World& world, const std::vector<T>& mine,
                               const std::vector<std::int64_t>& counts) {
  std::vector<T> all(as_size(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
  world.allgather(std::span<const T>(mine), std::span<T>(all), counts);
  return all;
}

// The same on every rank. Names of one site differ already.
void require_distinct(const SiteOptions& options, const std::vector<std::uint64_t>& names,
                      const std::vector<SiteSummary>& sites) {
  std::vector<std::uint64_t> sorted = names;
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice == sorted.end()) {
    return;
  }
  std::vector<std::string> places;
  std::size_t client = 0;
  for (std::size_t site = 0; site < sites.size(); ++site) {
    for (std::uint64_t i = 0; i < sites[site].num_clients; ++i, ++client) {
      if (names[client] == *twice) {
        places.push_back(fmt::format("client {} of site {}", i, site));
      }
    }
  }
  throw DataError(kReadSites, options.directory, -1,
                  fmt::format("a client belongs to two sites: got the same name for {}, expected "
                              "every client at one site",
                              fmt::join(places, " and ")));
}

}  // namespace

std::string site_directory(const std::string& pattern, std::int64_t site) {
  const std::size_t at = pattern.find(kSitePlaceholder);
  if (at == std::string::npos) {
    throw InvalidArgument(kReadSites, fmt::format("directory of a site: got \"{}\", expected "
                                                  "\"{}\" in it",
                                                  pattern, kSitePlaceholder));
  }
  std::string directory = pattern;
  return directory.replace(at, kSitePlaceholder.size(), std::to_string(site));
}

int rank_of_site(std::int64_t site, std::int64_t num_sites, int num_ranks) {
  return static_cast<int>(((site + 1) * num_ranks - 1) / num_sites);
}

std::shared_ptr<const ClientData> read_sites(bsp::World& world, const SiteOptions& options) {
  const std::int64_t begin = first_site(world.rank(), options.num_sites, world.size());
  const std::int64_t end = first_site(world.rank() + 1, options.num_sites, world.size());
  world.set_phase("read sites");
  std::vector<Site> mine;
  std::vector<std::uint32_t> samples;
  std::vector<std::uint64_t> names;
  for (std::int64_t number = begin; number < end; ++number) {
    const Site& site = mine.emplace_back(read_site(options, number));
    names.insert(names.end(), site.names.begin(), site.names.end());
    for (std::int64_t client = 0; client < site.clients->num_clients(); ++client) {
      samples.push_back(static_cast<std::uint32_t>(site.clients->num_samples(client)));
    }
  }
  const std::vector<SiteSummary> sites = share_summaries(world, mine, options.num_sites);
  const std::vector<std::int64_t> counts = clients_of_ranks(sites, world.size());
  require_distinct(options, share_by_client(world, names, counts), sites);
  auto clients = std::make_shared<SiteClients>(options, world.size(), sites,
                                               share_by_client(world, samples, counts));
  for (std::int64_t number = begin; number < end; ++number) {
    clients->open(number, mine[as_size(number - begin)].clients);
  }
  world.set_phase("compute");
  return clients;
}

}  // namespace superstep::worker
