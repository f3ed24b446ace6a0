// What the devices of a simulated federation are like: how long a client takes, whether it is
// there, whether it is lost on the way. Nothing is measured and nothing is stored: everything is a
// pure function of (options, client, number of its start), known before anything is trained, and
// the same on every rank.
//
//   DeviceModel devices(options, clients, {.epochs = 1, .download_bytes = n, .upload_bytes = n});
//   Fate fate = devices.fate(client, round, now);      // reports at fate.at, or is lost then
//
// A participation takes
//
//   download bytes / download rate + visits of samples * seconds per sample + upload bytes / rate
//
// Speed and rates are log-normal: the median times e^(deviation * standard normal number of the
// client), or come from a file (device_profiles.h). A client is lost when it goes away before it
// reports (availability.h), and with a probability per participation at a uniformly random moment
// of it.
//
// Cost: about 0.3 us per participation. Memory: none but profiles and trace.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "worker/federated/availability.h"
#include "worker/federated/client_data.h"
#include "worker/federated/device_profiles.h"
#include "worker/federated/virtual_time.h"

namespace superstep::worker {

// kNone: there is no virtual time.
enum class DeviceSpeed : std::uint8_t { kNone, kLogNormal, kFile };
std::string_view name_of(DeviceSpeed speed);

struct DeviceOptions {
  DeviceSpeed speed = DeviceSpeed::kNone;
  double seconds_per_sample = 0.01;        // kLogNormal: median
  double speed_deviation = 0.5;            // kLogNormal: deviation of its logarithm
  double download_bytes_per_second = 0.0;  // kLogNormal: medians; 0: transfers take no time
  double upload_bytes_per_second = 0.0;
  double bandwidth_deviation = 0.0;
  std::shared_ptr<const DeviceProfiles> profiles;  // kFile
  double dropout = 0.0;  // probability that a participation is lost, in [0, 1)
  AvailabilityOptions availability;
  std::uint64_t seed = 1;
};

// Throws InvalidArgument that names the field, or when a file was read for another number of
// clients.
void validate(const DeviceOptions& options, std::int64_t num_clients);
// Of what was read from files; empty without.
std::string fingerprint(const DeviceOptions& options);

// What every client does in a participation.
struct ClientTask {
  std::int64_t epochs = 1;
  std::int64_t download_bytes = 0;
  std::int64_t upload_bytes = 0;
};

enum class Outcome : std::uint8_t { kReports, kDropsOut, kGoesAway };

struct Fate {
  Outcome outcome = Outcome::kReports;
  VirtualTime at{};
  friend bool operator==(const Fate&, const Fate&) = default;
};

class DeviceModel {
 public:
  DeviceModel(DeviceOptions options, std::shared_ptr<const ClientData> clients, ClientTask task);

  DeviceProfile profile(std::int64_t client) const;
  VirtualTime duration(std::int64_t client) const;  // at least 1 ns
  // Of a participation that begins at `begin`; `start` numbers it (a round, a count of starts).
  Fate fate(std::int64_t client, std::int64_t start, VirtualTime begin) const;

  const Availability& availability() const { return availability_; }
  // The earliest time from `now` on at which any client that `may` names is there; an empty
  // predicate names all; kNever when there is none. Cost O(clients) unless all are always there.
  VirtualTime somebody_there(VirtualTime now,
                             const std::function<bool(std::int64_t client)>& may = {}) const;
  std::int64_t num_clients() const { return clients_->num_clients(); }

 private:
  DeviceOptions options_;
  std::shared_ptr<const ClientData> clients_;
  ClientTask task_;
  Availability availability_;
};

}  // namespace superstep::worker
