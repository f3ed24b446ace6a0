// The keys of the parameter server: who owns shards, and when an update sees whose gradients.
#include <vector>

#include "cluster/config_key_ranges.h"
#include "cluster/config_keys.h"

namespace superstep::cluster {

namespace {

template <auto Member>
auto& server_field(RunConfig& config) {
  return config.server.*Member;
}

template <auto Member>
auto& delay_field(RunConfig& config) {
  return config.server.delay.*Member;
}

using namespace key_ranges;  // NOLINT(google-build-using-namespace): words of this table

std::vector<Key> topology_and_policy_keys() {
  using S = ServerSection;
  return {
      {"server.policy",
       &server_field<&S::policy>,
       any(),
       {"bsp", "ssp", "async", "local", "backup"},
       "bsp: an update sees all gradients of its superstep; ssp: bounded staleness; async: "
       "Downpour "
       "SGD; local: averages of local models; backup: the last workers are not waited for "
       "(docs/parameter-server.md)"},
      {"server.servers",
       &server_field<&S::servers>,
       between(0, kMaxInt),
       {},
       "Ranks that own parameters and compute nothing (--servers); 0: every rank does both; never "
       "changes results",
       OnResume::kMayChange},
      {"server.workers",
       &server_field<&S::workers>,
       between(0, 65536),
       {},
       "Logical workers on the virtual clock; 0: as many as train.microbatches (bsp: no clock)"},
      {"server.staleness",
       &server_field<&S::staleness>,
       between(0, kMaxInt),
       {},
       "ssp: clocks that a worker may be ahead of the slowest; 0: bsp"},
      {"server.n_push",
       &server_field<&S::n_push>,
       between(1, kMaxInt),
       {},
       "async: a worker adds up the gradients of so many steps and pushes them as one update"},
      {"server.n_fetch",
       &server_field<&S::n_fetch>,
       between(1, kMaxInt),
       {},
       "async: a worker fetches parameters every so many steps, with steps of SGD between"},
      {"server.warm_start_supersteps",
       &server_field<&S::warm_start_supersteps>,
       between(0, kMaxCount),
       {},
       "async: the first supersteps are of one worker alone"},
      {"server.backup_workers",
       &server_field<&S::backup_workers>,
       between(0, 65535),
       {},
       "backup: workers of each superstep that are not waited for, and not used"},
  };
}

std::vector<Key> local_keys() {
  using S = ServerSection;
  return {
      {"server.local_steps",
       &server_field<&S::local_steps>,
       between(1, kMaxInt),
       {},
       "local: steps of each worker between two averages; an epoch ends with one, too"},
      {"server.local_after_supersteps",
       &server_field<&S::local_after_supersteps>,
       between(0, kMaxCount),
       {},
       "local: until then every step is averaged (post-local SGD)"},
      {"server.outer_kind",
       &server_field<&S::outer_kind>,
       any(),
       {"sgd", "momentum", "nesterov"},
       "local: update rule on the mean change of the workers; sgd at rate 1 is the plain average"},
      {"server.outer_learning_rate",
       &server_field<&S::outer_learning_rate>,
       between(0, 1e6),
       {},
       "local: rate of that rule"},
      {"server.outer_momentum",
       &server_field<&S::outer_momentum>,
       from_below(0, 1),
       {},
       "local: momentum, nesterov"},
      {"server.bucket_bytes",
       &server_field<&S::bucket_bytes>,
       between(0, kMaxCount),
       {},
       "Gradients are pushed in pieces of about this size; 0: in one piece",
       OnResume::kMayChange},
  };
}

std::vector<Key> delay_keys() {
  using D = DelaySection;
  return {
      {"server.delay.seconds_per_sample",
       &delay_field<&D::seconds_per_sample>,
       {.low = 0.0, .high = kMaxSeconds, .low_included = false},
       {},
       "Median of the virtual seconds a worker computes on a sample"},
      {"server.delay.speed_deviation",
       &delay_field<&D::speed_deviation>,
       between(0, 100),
       {},
       "Deviation of its logarithm between workers; 0: all the same"},
      {"server.delay.jitter_deviation",
       &delay_field<&D::jitter_deviation>,
       between(0, 100),
       {},
       "Deviation of its logarithm between the steps of a worker (stragglers)"},
      {"server.delay.bytes_per_second",
       &delay_field<&D::bytes_per_second>,
       between(0, 1e15),
       {},
       "Rate at which a worker fetches parameters and pushes gradients; 0: at once"},
      {"server.delay.seed",
       &delay_field<&D::seed>,
       at_least(0),
       {},
       "Key of these random numbers: another seed is another order of messages"},
  };
}

}  // namespace

std::vector<Key> server_keys() {
  std::vector<Key> all = topology_and_policy_keys();
  for (const std::vector<Key>& part : {local_keys(), delay_keys()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

}  // namespace superstep::cluster
