// Who takes part in a round: a pure function of (seed, round), the same on every rank without a
// word between them.
//
//   fixed     exactly m distinct clients, every set of m equally likely (Floyd's algorithm,
//             Bentley and Floyd 1987). Cost O(m)
//   poisson   every client by itself with probability q, exactly: its own 53-bit uniform number
//             below q. The sampling that privacy accountants of add/remove adjacency assume. The
//             cohort may be empty. Cost O(N): N / 2 blocks of Philox
//   weighted  m distinct clients, one after the other with probability proportional to the number
//             of samples among those left (Efraimidis and Spirakis 2006). Cost O(N log m)
//
// Each of them may be confined to clients that a predicate names: those that are there at the time
// (worker/federated/availability.h). Fixed then costs O(m N / eligible), at most O(N).
//
// Cohorts are in ascending order of clients.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "base/philox.h"
#include "worker/federated/client_data.h"

namespace superstep::worker {

enum class Sampling : std::uint8_t { kFixed, kPoisson, kWeighted };

std::string_view name_of(Sampling sampling);

struct CohortOptions {
  Sampling sampling = Sampling::kFixed;
  std::int64_t size = 10;  // kPoisson: the expected size, q = size / N
  std::uint64_t seed = 1;
};

// Throws InvalidArgument when the cohort is empty or larger than the population.
void validate(const CohortOptions& options, std::int64_t num_clients);

// Who may be chosen; empty: everybody.
using MayTakePart = std::function<bool(std::int64_t client)>;

std::vector<std::int64_t> select_cohort(const CohortOptions& options, const ClientData& clients,
                                        std::int64_t round, const MayTakePart& may = {});

// min(count, number of those who may) distinct clients of 0 ... num_clients - 1, every set of them
// equally likely; what `fixed` does with its stream.
std::vector<std::int64_t> choose_clients(std::int64_t count, std::int64_t num_clients,
                                         PhiloxStream stream, const MayTakePart& may);

}  // namespace superstep::worker
