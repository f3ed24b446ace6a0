#include <string>

#include <fmt/format.h>

#include "cluster/config_contradictions.h"

namespace superstep::cluster {

namespace {

void check_devices(const FederatedSection& federated, UnusedKeys& unused, Complaints& complaints) {
  const DeviceSection& device = federated.device;
  const std::string speed = fmt::format("federated.device.speed = \"{}\"", device.speed);
  const std::string there =
      fmt::format("federated.device.availability = \"{}\"", device.availability);
  check_used(unused, used_if(device.speed == "log_normal"), speed,
             {"federated.device.seconds_per_sample", "federated.device.speed_deviation",
              "federated.device.download_bytes_per_second",
              "federated.device.upload_bytes_per_second", "federated.device.bandwidth_deviation"});
  check_used(unused, used_if(device.speed == "file"), speed, {"federated.device.profiles"});
  check_used(unused, used_if(device.speed != "none"), speed,
             {"federated.device.dropout", "federated.device.availability", "federated.device.seed",
              "federated.over_selection", "federated.deadline_seconds", "federated.min_reports"});
  check_used(unused, used_if(device.availability == "periodic"), there,
             {"federated.device.period_seconds", "federated.device.available_fraction"});
  check_used(unused, used_if(device.availability == "trace"), there, {"federated.device.trace"});
  if (device.speed == "file" && device.profiles.empty()) {
    complaints.emplace_back("federated.device.profiles",
                            "'federated.device.profiles' is missing: federated.device.speed "
                            "\"file\" needs it");
  }
  if (device.availability == "trace" && device.trace.empty()) {
    complaints.emplace_back("federated.device.trace",
                            "'federated.device.trace' is missing: federated.device.availability "
                            "\"trace\" needs it");
  }
}

void check_asynchrony(const FederatedSection& federated, UnusedKeys& unused,
                      Complaints& complaints) {
  const AsynchronySection& asynchrony = federated.asynchrony;
  const std::string kind = fmt::format("federated.asynchrony.kind = \"{}\"", asynchrony.kind);
  const std::string staleness =
      fmt::format("federated.asynchrony.staleness = \"{}\"", asynchrony.staleness);
  check_used(unused, used_if(asynchrony.kind != "none"), kind,
             {"federated.asynchrony.concurrency", "federated.asynchrony.staleness",
              "federated.asynchrony.max_staleness"});
  check_used(unused, used_if(asynchrony.kind == "fedbuff"), kind, {"federated.asynchrony.buffer"});
  check_used(unused, used_if(asynchrony.kind == "fedasync"), kind, {"federated.asynchrony.mixing"});
  check_used(unused, used_if(asynchrony.kind == "none"), kind,
             {"federated.cohort", "federated.sampling", "federated.over_selection",
              "federated.deadline_seconds", "federated.min_reports"});
  check_used(unused, used_if(asynchrony.kind != "fedasync"), kind, {"federated.weighting"});
  check_used(unused, used_if(asynchrony.kind != "none" && asynchrony.staleness != "constant"),
             asynchrony.kind == "none" ? kind : staleness, {"federated.asynchrony.staleness_a"});
  check_used(unused, used_if(asynchrony.kind != "none" && asynchrony.staleness == "hinge"),
             asynchrony.kind == "none" ? kind : staleness, {"federated.asynchrony.staleness_b"});
  if (asynchrony.kind != "none" && federated.device.speed == "none") {
    complaints.emplace_back("federated.asynchrony.kind",
                            fmt::format("'federated.asynchrony.kind' = \"{}\" needs virtual time: "
                                        "set 'federated.device.speed'",
                                        asynchrony.kind));
  }
}

}  // namespace

void check_virtual_time(const FederatedSection& federated, UnusedKeys& unused,
                        Complaints& complaints) {
  check_devices(federated, unused, complaints);
  check_asynchrony(federated, unused, complaints);
}

}  // namespace superstep::cluster
