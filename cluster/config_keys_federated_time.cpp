// The keys of virtual time in federated runs: rounds in time, [federated.device],
// [federated.asynchrony].
#include <vector>

#include "cluster/config_key_ranges.h"
#include "cluster/config_keys.h"

namespace superstep::cluster {

namespace {

template <auto Member>
auto& timing_field(RunConfig& config) {
  return config.federated.*Member;
}

template <auto Member>
auto& device_field(RunConfig& config) {
  return config.federated.device.*Member;
}

template <auto Member>
auto& asynchrony_field(RunConfig& config) {
  return config.federated.asynchrony.*Member;
}

using namespace key_ranges;  // NOLINT(google-build-using-namespace): words of this table

std::vector<Key> timing_keys() {
  using F = FederatedSection;
  return {
      {"federated.over_selection",
       &timing_field<&F::over_selection>,
       between(1, 1e6),
       {},
       "Select so many times the cohort, and use the first cohort to report"},
      {"federated.deadline_seconds",
       &timing_field<&F::deadline_seconds>,
       between(0, kMaxSeconds),
       {},
       "Virtual seconds after which the reports of a round are not used; 0: none"},
      {"federated.min_reports",
       &timing_field<&F::min_reports>,
       between(0, kMaxInt),
       {},
       "A round with fewer reports in time leaves the model as it is"},
  };
}

std::vector<Key> device_keys() {
  using D = DeviceSection;
  return {
      {"federated.device.speed",
       &device_field<&D::speed>,
       any(),
       {"none", "log_normal", "file"},
       "none: no virtual time; log_normal: drawn per client; file: as profiles says"},
      {"federated.device.profiles",
       &device_field<&D::profiles>,
       any(),
       {},
       "file: tab-separated text with client or device, seconds_per_sample and rates"},
      {"federated.device.seconds_per_sample",
       &device_field<&D::seconds_per_sample>,
       positive(),
       {},
       "log_normal: median of the virtual seconds a client trains on a sample"},
      {"federated.device.speed_deviation",
       &device_field<&D::speed_deviation>,
       between(0, 100),
       {},
       "log_normal: deviation of the logarithm of that; 0: all the same"},
      {"federated.device.download_bytes_per_second",
       &device_field<&D::download_bytes_per_second>,
       between(0, 1e15),
       {},
       "log_normal: median rate at which a client gets the model; 0: at once"},
      {"federated.device.upload_bytes_per_second",
       &device_field<&D::upload_bytes_per_second>,
       between(0, 1e15),
       {},
       "log_normal: median rate at which it sends its update; 0: at once"},
      {"federated.device.bandwidth_deviation",
       &device_field<&D::bandwidth_deviation>,
       between(0, 100),
       {},
       "log_normal: deviation of the logarithm of both rates"},
      {"federated.device.dropout",
       &device_field<&D::dropout>,
       from_below(0, 1),
       {},
       "Probability that a client is lost before it reports, every time anew"},
      {"federated.device.availability",
       &device_field<&D::availability>,
       any(),
       {"always", "periodic", "trace"},
       "When clients are there: only they are chosen, and one that goes away is lost"},
      {"federated.device.period_seconds",
       &device_field<&D::period_seconds>,
       between(1e-6, kMaxSeconds),
       {},
       "periodic: length of the period, from a phase of the client's own"},
      {"federated.device.available_fraction",
       &device_field<&D::available_fraction>,
       {.low = 0.0, .high = 1.0, .low_included = false},
       {},
       "periodic: part of the period in which a client is there"},
      {"federated.device.trace",
       &device_field<&D::trace>,
       any(),
       {},
       "trace: tab-separated text with client, begin and end in seconds, repeated for ever"},
      {"federated.device.seed",
       &device_field<&D::seed>,
       at_least(0),
       {},
       "Key of the devices' random numbers"},
  };
}

std::vector<Key> asynchrony_keys() {
  using A = AsynchronySection;
  return {
      {"federated.asynchrony.kind",
       &asynchrony_field<&A::kind>,
       any(),
       {"none", "fedbuff", "fedasync"},
       "fedbuff: an update per buffer of reports; fedasync: per report (docs/federated.md)"},
      {"federated.asynchrony.concurrency",
       &asynchrony_field<&A::concurrency>,
       between(1, kMaxInt),
       {},
       "Clients in training at any virtual time"},
      {"federated.asynchrony.buffer",
       &asynchrony_field<&A::buffer>,
       between(1, kMaxInt),
       {},
       "fedbuff: reports per update of the model"},
      {"federated.asynchrony.mixing",
       &asynchrony_field<&A::mixing>,
       {.low = 0.0, .high = 1.0, .low_included = false},
       {},
       "fedasync: weight of a client's model that is not stale"},
      {"federated.asynchrony.staleness",
       &asynchrony_field<&A::staleness>,
       any(),
       {"constant", "polynomial", "hinge"},
       "Weight of a report that is t updates late: 1; (1 + t)^-a; 1 up to b, then 1 / (a (t - b) + "
       "1)"},
      {"federated.asynchrony.staleness_a",
       &asynchrony_field<&A::staleness_a>,
       between(0, 1e6),
       {},
       "polynomial, hinge: a"},
      {"federated.asynchrony.staleness_b",
       &asynchrony_field<&A::staleness_b>,
       between(0, 1e9),
       {},
       "hinge: b"},
      {"federated.asynchrony.max_staleness",
       &asynchrony_field<&A::max_staleness>,
       between(0, kMaxInt),
       {},
       "Discard reports that are later than this, so that as many models are kept at most; 0: "
       "none"},
  };
}

}  // namespace

std::vector<Key> federated_time_keys() {
  std::vector<Key> all = timing_keys();
  for (const std::vector<Key>& part : {device_keys(), asynchrony_keys()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

}  // namespace superstep::cluster
