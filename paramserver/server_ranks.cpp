#include "paramserver/server_ranks.h"

#include <numeric>

#include <fmt/format.h>

#include "base/as_size.h"
#include "base/error.h"
#include "bsp/slot_tree.h"

namespace superstep::paramserver {

namespace {

// Of server j of S among p ranks.
int rank_of_server(int server, int num_servers, int num_ranks) {
  return static_cast<int>(std::int64_t{server + 1} * num_ranks / num_servers) - 1;
}

std::vector<int> all_ranks(int num_ranks) {
  std::vector<int> ranks(as_size(num_ranks));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

}  // namespace

void require_servers(int num_servers, int num_ranks) {
  if (num_servers < 0 || num_servers >= num_ranks) {
    throw InvalidArgument(
        "servers",
        fmt::format("dedicated servers leave no rank to compute: got 'server.servers' = {} of {} "
                    "ranks, expected 0 (every rank serves and computes) to {}; start more ranks or "
                    "ask for fewer servers",
                    num_servers, num_ranks, num_ranks - 1));
  }
}

std::vector<int> server_ranks(int num_servers, int num_ranks) {
  if (num_servers == 0) {
    return all_ranks(num_ranks);
  }
  std::vector<int> servers;
  servers.reserve(static_cast<std::size_t>(num_servers));
  for (int server = 0; server < num_servers; ++server) {
    servers.push_back(rank_of_server(server, num_servers, num_ranks));
  }
  return servers;
}

std::vector<int> worker_ranks(int num_servers, int num_ranks) {
  std::vector<int> workers;
  int server = 0;
  for (const int rank : all_ranks(num_ranks)) {
    if (server < num_servers && rank == rank_of_server(server, num_servers, num_ranks)) {
      ++server;
    } else {
      workers.push_back(rank);
    }
  }
  return workers;
}

std::vector<std::int64_t> owner_cuts(const ParameterLayout& layout, int num_servers,
                                     int num_ranks) {
  const std::vector<int> owners = server_ranks(num_servers, num_ranks);
  const auto num_shards = static_cast<int>(owners.size());
  std::vector<std::int64_t> cuts{0};
  int shard = 0;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const bool owns = shard < num_shards && owners[as_size(shard)] == rank;
    cuts.push_back(owns ? layout.shard(shard++, num_shards).end : cuts.back());
  }
  return cuts;
}

std::vector<int> worker_placement(int num_slots, int num_servers, int num_ranks) {
  const std::vector<int> workers = worker_ranks(num_servers, num_ranks);
  std::vector<int> placement =
      bsp::contiguous_placement(num_slots, static_cast<int>(workers.size()));
  for (int& rank : placement) {
    rank = workers[as_size(rank)];
  }
  return placement;
}

}  // namespace superstep::paramserver
